//! Folders as a store: `object_store`'s, and what it leaves out for files, putting an object only where its version
//! is still the expected one.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::{fmt, io};

/// The file system's root.
#[derive(Debug)]
pub(crate) struct Folders(LocalFileSystem);

impl Folders {
    /// Writes are flushed to disk before they return, with their folder's entry, as a bucket's are.
    pub(crate) fn new() -> Self {
        Self(LocalFileSystem::new().with_fsync(true))
    }

    /// Keeps other updaters of this object's folder away for as long as the result lives; also those of other
    /// processes. The file system's lock needs no file of its own and ends with whoever holds it.
    async fn lock(&self, location: &Path) -> Result<File> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::Precondition { path: location.to_string(), source: "there is no such object".into() }
            }
            _ => Error::Generic { store: "LocalFileSystem", source: Box::new(source) },
        };
        let file = self.0.path_to_filesystem(location)?;
        let lock = move || -> io::Result<File> {
            let folder = File::open(file.parent().unwrap_or(&file))?;
            flock(&folder, FlockOperation::LockExclusive)?;
            Ok(folder)
        };
        tokio::task::spawn_blocking(lock).await.map_err(io::Error::other).and_then(|locked| locked).map_err(failed)
    }
}

impl fmt::Display for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folders {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let PutMode::Update(expected) = &options.mode else {
            return self.0.put_opts(location, payload, options).await;
        };
        let _locked = self.lock(location).await?;
        let stands = match self.0.head(location).await {
            Ok(meta) => meta.e_tag,
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if stands.is_none() || stands != expected.e_tag {
            let source = format!("expected the version {:?}, found {stands:?}", expected.e_tag).into();
            return Err(Error::Precondition { path: location.to_string(), source });
        }
        options.mode = PutMode::Overwrite;
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
