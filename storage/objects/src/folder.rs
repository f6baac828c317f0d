//! Folders as a store: `object_store`'s, and what it leaves out for files: putting an object only where its version is
//! still the expected one, and putting it only where there is none on file systems without hard links.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::{fmt, io};

/// The file system's root.
#[derive(Debug)]
pub(crate) struct Folders(LocalFileSystem);

impl Folders {
    /// Writes are flushed to disk before they return, with their folder's entry, as a bucket's are.
    pub(crate) fn new() -> Self {
        Self(LocalFileSystem::new().with_fsync(true))
    }

    /// Puts an object where there is none: by a hard link, which fails where there is one.
    async fn create(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.0.put_opts(location, payload.clone(), options.clone()).await {
            Err(error) if lacks_hard_links(&error) => self.create_without_links(location, payload).await,
            put => put,
        }
    }

    /// The same on mounted buckets, SMB and exFAT: the object is written whole under another name, and under the
    /// folder's lock renamed to its own if that is free. Where a file system has no locks between hosts either, the
    /// last of two hosts that create an object at the same moment wins.
    async fn create_without_links(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let file = self.0.path_to_filesystem(location)?;
        let _locked = self.lock(location).await?;
        let create = move || create_by_rename(&file, &payload);
        let created = tokio::task::spawn_blocking(create).await.map_err(io::Error::other).and_then(|created| created);
        created.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: location.to_string(), source: source.into() },
            _ => Error::Generic { store: "LocalFileSystem", source: source.into() },
        })?;
        let e_tag = self.0.head(location).await?.e_tag;
        Ok(PutResult { e_tag, version: None, extensions: Default::default() })
    }

    /// Keeps other updaters of this object's folder away for as long as the result lives; also those of other
    /// processes. The file system's lock needs no file of its own and ends with its holder.
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

/// Writes `file` under another name, which no listing shows, and renames it; the caller holds the folder's lock.
fn create_by_rename(file: &std::path::Path, payload: &PutPayload) -> io::Result<()> {
    if file.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut staged = file.as_os_str().to_owned();
    staged.push(format!("#{}", rand::random::<u64>()));
    let write = || -> io::Result<()> {
        let mut writer = File::create_new(&staged)?;
        payload.iter().try_for_each(|bytes| writer.write_all(bytes))?;
        writer.sync_all()?;
        std::fs::rename(&staged, file)
    };
    if let Err(error) = write() {
        let _ = std::fs::remove_file(&staged);
        return Err(error);
    }
    File::open(file.parent().unwrap_or(file))?.sync_all()
}

/// Whether the file system has no hard links.
fn lacks_hard_links(error: &Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            return matches!(errno, Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK));
        }
        source = error.source();
    }
    false
}

impl fmt::Display for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folders {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if options.mode == PutMode::Create {
            return self.create(location, payload, options).await;
        }
        let PutMode::Update(expected) = &options.mode else {
            return self.0.put_opts(location, payload, options).await;
        };
        let _locked = self.lock(location).await?;
        let found = match self.0.head(location).await {
            Ok(meta) => meta.e_tag,
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if found.is_none() || found != expected.e_tag {
            let source = format!("expected the version {:?}, found {found:?}", expected.e_tag).into();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_hard_links_too_the_first_creator_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(Folders::new());
        let path = Path::from_absolute_path(folder.path().join("manifest.json")).unwrap();
        let racers = (0..32).map(|racer| {
            let (store, path) = (store.clone(), path.clone());
            let bytes = vec![racer; 100_000];
            tokio::spawn(async move {
                let created = store.create_without_links(&path, bytes.into()).await;
                created.is_ok().then_some(racer)
            })
        });
        let racers: Vec<Option<u8>> = futures::future::try_join_all(racers).await.unwrap();
        let winners: Vec<u8> = racers.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(std::fs::read(folder.path().join("manifest.json")).unwrap(), vec![winners[0]; 100_000]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the others");
        let again = store.create_without_links(&path, "x".into()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    }

    #[test]
    fn a_file_system_without_hard_links_is_told_from_one_that_refuses() {
        let error = |errno: Errno| Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from_raw_os_error(errno.raw_os_error())),
        };
        for (errno, lacks) in
            [(Errno::PERM, true), (Errno::OPNOTSUPP, true), (Errno::ACCESS, false), (Errno::NOSPC, false)]
        {
            assert_eq!(lacks_hard_links(&error(errno)), lacks, "{errno}");
        }
    }
}
