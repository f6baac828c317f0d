//! Copying one checkpoint to a local folder, where other tools can open it.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest};
use crate::names;
use futures::TryStreamExt as _;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt as _;

/// How far a pull is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PullProgress<'a> {
    /// The file in work.
    pub file: &'a str,
    /// Of all files, those that were there already included.
    pub done_bytes: u64,
    /// Of all files.
    pub total_bytes: u64,
}

impl RunFolder {
    /// Copies the checkpoint of `step` into the folder `dest`, which is made if need be. Each file is checked and then
    /// appears under its name at once; files that are there and whole are kept, so an interrupted pull goes on where it
    /// was. The manifest comes last.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest), and [`CheckpointError::Damaged`]; [`CheckpointError::Full`] and
    /// [`CheckpointError::Io`] name the local file.
    pub async fn pull(
        &self,
        step: u64,
        dest: &Path,
        mut progress: impl FnMut(PullProgress<'_>),
    ) -> Result<Manifest, CheckpointError> {
        let manifest = self.read_manifest(step).await?;
        tokio::fs::create_dir_all(dest).await.map_err(|error| CheckpointError::io("make", dest.display(), error))?;
        let total_bytes = manifest.bytes();
        let mut done_bytes = 0;
        for file in &manifest.files {
            let path = dest.join(&file.name);
            let mut advance = |bytes: u64| {
                done_bytes += bytes;
                progress(PullProgress { file: &file.name, done_bytes, total_bytes });
            };
            if is_whole(&path, file).await.map_err(|error| CheckpointError::io("read", path.display(), error))? {
                advance(file.bytes);
            } else {
                self.pull_file(step, file, &path, &mut advance).await?;
            }
        }
        place(&dest.join(names::INDEX), &manifest.index_json()).await?;
        place(&dest.join(names::MANIFEST), &manifest.to_json()).await?;
        Ok(manifest)
    }

    async fn pull_file(
        &self,
        step: u64,
        file: &FileEntry,
        path: &Path,
        advance: &mut impl FnMut(u64),
    ) -> Result<(), CheckpointError> {
        let from = self.step_path(step, &file.name);
        self.check_size(&from, file.bytes).await?;
        let mut partial = Partial::create(path, file.bytes).await?;
        let mut hasher = blake3::Hasher::new();
        let mut chunks = self.chunks(&from, file.bytes);
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
            partial.write(&chunk).await?;
            advance(chunk.len() as u64);
        }
        let found = Digest::from(hasher.finalize());
        if found != file.digest {
            return Err(Damage::Digest { object: self.shown(&from), expected: file.digest, found }.into());
        }
        partial.publish().await
    }
}

async fn is_whole(path: &Path, file: &FileEntry) -> io::Result<bool> {
    let (path, bytes, digest) = (path.to_owned(), file.bytes, file.digest);
    let check = move || -> io::Result<bool> {
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() != bytes {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file)?;
        Ok(Digest::from(hasher.finalize()) == digest)
    };
    tokio::task::spawn_blocking(check).await?
}

async fn place(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut partial = Partial::create(path, bytes.len() as u64).await?;
    partial.write(bytes).await?;
    partial.publish().await
}

/// A file being written beside its final name. Dropped unpublished, it is removed; a killed process leaves it behind,
/// and the next pull overwrites it.
struct Partial<'a> {
    path: &'a Path,
    staged: PathBuf,
    bytes: u64,
    file: Option<tokio::fs::File>,
}

impl<'a> Partial<'a> {
    async fn create(path: &'a Path, bytes: u64) -> Result<Self, CheckpointError> {
        let mut staged = path.as_os_str().to_owned();
        staged.push(".partial");
        let staged = PathBuf::from(staged);
        let created = tokio::fs::File::create(&staged).await;
        let file = created.map_err(|error| CheckpointError::write(&staged.display().to_string(), bytes, error))?;
        Ok(Self { path, staged, bytes, file: Some(file) })
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), CheckpointError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(chunk).await.map_err(|error| self.failed(error))
    }

    async fn publish(mut self) -> Result<(), CheckpointError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let publish = async {
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(&self.staged, self.path).await
        };
        publish.await.map_err(|error| {
            self.remove();
            self.failed(error)
        })
    }

    fn failed(&self, error: io::Error) -> CheckpointError {
        CheckpointError::write(&self.path.display().to_string(), self.bytes, error)
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.staged) {
            tracing::debug!(path = %self.staged.display(), %error, "remove a partial file");
        }
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.remove();
        }
    }
}
