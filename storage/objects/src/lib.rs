//! Which object store a URI means. Everything above works on [`object_store`]'s trait and never learns where it is.
//!
//! Folders (`file:///path` or a plain absolute path), S3 (`s3://bucket/prefix`), and Google Cloud Storage
//! (`gs://bucket/prefix`) in builds with the feature `gcs`.

mod bucket;
mod conditions;
mod connection;
mod folder;
#[cfg(feature = "gcs")]
mod gcs;
mod s3;
mod uri;

pub use bucket::{Bucket, Cloud};
pub use conditions::{Conditions, check_conditions};
pub use uri::{OpenError, file_uri, local_path};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::sync::Arc;
use std::time::Duration;

/// How long a request to a bucket that can't be reached, or throttles, is tried again.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(180);

/// Opens the store that `uri` names and the path in it. Nothing is read or created.
///
/// Writes to local files are flushed to disk before they return, with their folder's entry, as a bucket's are: a
/// commit that was reported survives a power cut.
///
/// A request to a bucket is tried again for [`RETRY_TIMEOUT`] while the bucket can't be reached or throttles.
///
/// # Errors
/// [`OpenError`] when the URI names neither a folder nor a bucket of a cloud that this build knows.
pub fn open(uri: &str) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    open_with(uri, RETRY_TIMEOUT)
}

/// [`open`] with another time limit, such as at a terminal.
///
/// # Errors
/// As [`open`].
pub fn open_with(uri: &str, retry_timeout: Duration) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    if let Some(bucket) = Bucket::parse(uri) {
        return connect(bucket?, retry_timeout);
    }
    let local = local_path(uri)?;
    let path = Path::from_absolute_path(&local)
        .map_err(|source| OpenError::Path { uri: uri.to_owned(), source: Box::new(source) })?;
    Ok((Arc::new(folder::Folders::new()), path))
}

fn connect(bucket: Bucket, retry_timeout: Duration) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    let name = format!("{}://{}", bucket.cloud.scheme(), bucket.name);
    match bucket.cloud {
        Cloud::S3 => {
            let s3 = s3::S3::new(bucket.name, retry_timeout);
            Ok((Arc::new(connection::Connection::new(name, s3)), bucket.prefix))
        }
        #[cfg(feature = "gcs")]
        Cloud::Gcs => {
            let gcs = gcs::Bucket::new(bucket.name, retry_timeout);
            Ok((Arc::new(connection::Connection::new(name, gcs)), bucket.prefix))
        }
        #[cfg(not(feature = "gcs"))]
        Cloud::Gcs => Err(OpenError::NotBuiltIn { uri: bucket.to_string(), feature: "gcs" }),
    }
}

/// Whether there is an object of this name.
///
/// # Errors
/// Whatever the store reports, apart from "not found".
pub async fn exists(store: &dyn ObjectStore, path: &Path) -> object_store::Result<bool> {
    match store.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{PutMode, PutOptions, PutPayload};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn put_if_absent_keeps_the_first_writer() {
        let folder = tempfile::tempdir().unwrap();
        let uri = file_uri(&folder.path().join("a run/100% done #1"));
        runtime().block_on(async {
            let (store, root) = open(&uri).unwrap();
            let path = root.join("manifest.json");
            assert!(!exists(&*store, &path).await.unwrap());
            let create = || PutOptions::from(PutMode::Create);
            store.put_opts(&path, PutPayload::from_static(b"first"), create()).await.unwrap();
            let second = store.put_opts(&path, PutPayload::from_static(b"second"), create()).await;
            assert!(matches!(second, Err(object_store::Error::AlreadyExists { .. })), "{second:?}");
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
            assert!(exists(&*store, &path).await.unwrap());
        });
        let local = folder.path().join("a run/100% done #1/manifest.json");
        assert_eq!(std::fs::read(local).unwrap(), b"first", "the file has the name that the user wrote");
    }

    #[test]
    fn a_uri_and_its_plain_path_name_the_same_place() {
        let (_, from_uri) = open("file:///tmp/x%20y/z").unwrap();
        let (_, from_path) = open("/tmp/x y/z").unwrap();
        assert_eq!(from_uri, from_path);
    }
}
