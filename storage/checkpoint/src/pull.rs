//! Copying one checkpoint to a local folder, where other tools can open it.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest};
use crate::names;
use futures::TryStreamExt as _;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
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
    /// was. Files that earlier steps wrote come into the same folder. The manifest comes last, and says so.
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
        let mut before_bytes = 0;
        for file in &manifest.files {
            let path = dest.join(&file.name);
            let mut at = |bytes: u64| {
                progress(PullProgress { file: &file.name, done_bytes: before_bytes + bytes, total_bytes });
            };
            if !is_whole(&path, file).await.map_err(|error| CheckpointError::io("read", path.display(), error))? {
                self.pull_file(step, file, &path, &mut at).await?;
            }
            at(file.bytes);
            before_bytes += file.bytes;
        }
        let manifest = manifest.gathered();
        place(&dest.join(names::INDEX), &manifest.index_json()).await?;
        place(&dest.join(names::MANIFEST), &manifest.to_json()).await?;
        Ok(manifest)
    }

    /// `at` is called with how many of the file's bytes are there.
    async fn pull_file(
        &self,
        step: u64,
        file: &FileEntry,
        path: &Path,
        at: &mut impl FnMut(u64),
    ) -> Result<(), CheckpointError> {
        let from = self.file_path(step, file);
        self.check_size(&from, file.bytes).await?;
        let (mut partial, hasher) = Partial::resume(path, file.bytes).await?;
        let resumed = hasher.count() > 0;
        let mut found = self.fill(&from, file, &mut partial, hasher, at).await?;
        if found != file.digest && resumed {
            // What was left was of another file.
            partial = Partial::create(path, file.bytes).await?;
            found = self.fill(&from, file, &mut partial, blake3::Hasher::new(), at).await?;
        }
        if found != file.digest {
            partial.stays = false;
            return Err(Damage::Digest { object: self.shown(&from), expected: file.digest, found }.into());
        }
        partial.publish().await
    }

    /// Fetches what is missing behind that of which the digest is taken.
    async fn fill(
        &self,
        from: &object_store::path::Path,
        file: &FileEntry,
        partial: &mut Partial<'_>,
        mut hasher: blake3::Hasher,
        at: &mut impl FnMut(u64),
    ) -> Result<Digest, CheckpointError> {
        at(hasher.count());
        let mut chunks = pin!(self.range(from, file.bytes, hasher.count()..file.bytes));
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
            partial.write(&chunk).await?;
            at(hasher.count());
        }
        Ok(Digest::from(hasher.finalize()))
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

/// A file being written beside its final name. Dropped unpublished it is removed, or stays for the next pull to go on;
/// a killed process leaves it behind in any case.
pub(crate) struct Partial<'a> {
    path: &'a Path,
    staged: PathBuf,
    bytes: u64,
    file: Option<tokio::fs::File>,
    stays: bool,
}

impl<'a> Partial<'a> {
    /// An empty one, whatever was left of it.
    pub(crate) async fn create(path: &'a Path, bytes: u64) -> Result<Self, CheckpointError> {
        let staged = staged(path);
        let created = tokio::fs::File::create(&staged).await;
        let file = created.map_err(|error| CheckpointError::write(&staged.display().to_string(), bytes, error))?;
        Ok(Self { path, staged, bytes, file: Some(file), stays: false })
    }

    /// With what was left of it, and the digest of that so far. What comes stays for the next one.
    async fn resume(path: &'a Path, bytes: u64) -> Result<(Self, blake3::Hasher), CheckpointError> {
        let staged = staged(path);
        let place = staged.clone();
        let open = move || -> io::Result<(std::fs::File, blake3::Hasher)> {
            let mut options = std::fs::File::options();
            let mut file = options.read(true).write(true).create(true).truncate(false).open(&place)?;
            if file.metadata()?.len() > bytes {
                file.set_len(0)?;
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(&mut file)?;
            Ok((file, hasher))
        };
        let opened = tokio::task::spawn_blocking(open).await.unwrap_or_else(|error| Err(error.into()));
        let (file, hasher) =
            opened.map_err(|error| CheckpointError::write(&staged.display().to_string(), bytes, error))?;
        Ok((Self { path, staged, bytes, file: Some(file.into()), stays: true }, hasher))
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), CheckpointError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(chunk).await.map_err(|error| self.failed(error))
    }

    pub(crate) async fn publish(mut self) -> Result<(), CheckpointError> {
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
        if self.file.is_some() && !self.stays {
            self.remove();
        }
    }
}

fn staged(path: &Path) -> PathBuf {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".partial");
    PathBuf::from(staged)
}
