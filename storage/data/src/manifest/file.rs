//! Where a manifest itself is kept: a file, or an object in a bucket, beside the data or elsewhere.

use super::{MANIFEST_MAX_BYTES, Manifest, manifest_digest};
use crate::error::DataError;
use crate::place::{Base, PATIENCE, is_bucket};
use crate::waiting::wait;
use object_store::{Error as StoreError, ObjectStoreExt as _};
use std::io::Read as _;
use std::path::Path;

impl Manifest {
    /// The bytes of the manifest at a path, `file:///path`, `s3://bucket/path` or `gs://bucket/path`, as they are.
    ///
    /// # Errors
    /// [`DataError::File`] or [`DataError::Store`] when they can't be read, [`DataError::Missing`] when a bucket has
    /// none.
    pub fn fetch(uri: &str) -> Result<Vec<u8>, DataError> {
        if !is_bucket(uri) {
            let path = local(uri)?;
            return read_bounded(&path, MANIFEST_MAX_BYTES as u64, "bytes of a manifest");
        }
        let (store, location) = trainctl_objects::open_with(uri, PATIENCE)?;
        wait(uri, async {
            let failed = |source| match source {
                StoreError::NotFound { .. } => DataError::Missing { object: uri.to_owned() },
                source => DataError::Store { object: uri.to_owned(), source },
            };
            let result = store.get(&location).await.map_err(failed)?;
            if result.meta.size > MANIFEST_MAX_BYTES as u64 {
                return Err(DataError::TooLarge {
                    object: uri.to_owned(),
                    unit: "bytes of a manifest",
                    limit: MANIFEST_MAX_BYTES as u64,
                    found: result.meta.size.into(),
                });
            }
            Ok(result.bytes().await.map_err(failed)?.to_vec())
        })
    }

    /// Writes the manifest to where `uri` says, as in [`Manifest::fetch`], and returns its digest. A root at or below
    /// the manifest's folder is written relative to it, so that both can be moved together.
    ///
    /// # Errors
    /// [`DataError::File`] or [`DataError::Store`] when it can't be written.
    pub fn write_to(&self, uri: &str) -> Result<String, DataError> {
        if !is_bucket(uri) {
            return self.write(&local(uri)?);
        }
        let mut manifest = self.clone();
        if let Some(relative) = below_uri(Base::of_manifest(uri).as_str(), &self.root) {
            manifest.root = relative;
        }
        let bytes = manifest.to_bytes();
        let digest = manifest_digest(&bytes);
        let (store, location) = trainctl_objects::open_with(uri, PATIENCE)?;
        wait(uri, async {
            let failed = |source| DataError::Store { object: uri.to_owned(), source };
            store.put(&location, bytes.into()).await.map(drop).map_err(failed)
        })?;
        Ok(digest)
    }

    /// [`Manifest::write_to`] a local path.
    ///
    /// # Errors
    /// [`DataError::File`] when the file can't be written.
    pub fn write(&self, path: &Path) -> Result<String, DataError> {
        let path = std::path::absolute(path).map_err(|source| failed(path, "written", source))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut manifest = self.clone();
        if let Ok(root) = trainctl_objects::local_path(&self.root)
            && let Some(relative) = below(folder, &root)
        {
            manifest.root = relative;
        }
        let bytes = manifest.to_bytes();
        std::fs::write(&path, &bytes).map_err(|source| failed(&path, "written", source))?;
        Ok(manifest_digest(&bytes))
    }
}

/// The content of a file that may be no larger than `limit`.
pub(crate) fn read_bounded(path: &Path, limit: u64, unit: &'static str) -> Result<Vec<u8>, DataError> {
    let read_failed = |source| failed(path, "read", source);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read_failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read_failed)?;
    if bytes.len() as u64 > limit {
        return Err(DataError::TooLarge {
            object: path.display().to_string(),
            unit,
            limit,
            found: bytes.len() as u128,
        });
    }
    Ok(bytes)
}

fn failed(path: &Path, done: &'static str, source: std::io::Error) -> DataError {
    DataError::File { path: path.display().to_string(), done, source }
}

fn local(uri: &str) -> Result<std::path::PathBuf, DataError> {
    if uri.contains("://") { Ok(trainctl_objects::local_path(uri)?) } else { Ok(uri.into()) }
}

/// `path` as seen from `folder`, when it is that folder or below it.
fn below(folder: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(folder).ok()?;
    let text = relative.to_str()?;
    Some(if text.is_empty() { ".".to_owned() } else { text.to_owned() })
}

/// The same for URIs of buckets.
fn below_uri(folder: &str, uri: &str) -> Option<String> {
    let rest = uri.trim_end_matches('/').strip_prefix(folder)?;
    if rest.is_empty() { Some(".".to_owned()) } else { rest.strip_prefix('/').map(str::to_owned) }
}
