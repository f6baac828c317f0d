//! What a run was made from, kept in its folder, so that the folder alone is enough to run it again where its data still
//! is: the data manifest, and the module of a job that trains one of its own. Their digests are pinned in the run's
//! record; whoever reads them compares.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::names;
use crate::upload::{Chunks, Upload};
use bytes::Bytes;
use object_store::path::Path;

/// Chunks of an upload on their way at a time.
const CHUNKS_MAX: usize = 3;

/// A file that a run keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// `data.manifest.json`: byte for byte as the job was submitted with it. A root in it that is relative starts where
    /// `job.data.manifest` says that the manifest was.
    DataManifest,
    /// `module.pt`: the TorchScript file that the job trains.
    Module,
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::DataManifest => names::DATA_MANIFEST,
            Self::Module => names::MODULE,
        }
    }
}

impl RunFolder {
    /// Keeps these bytes, if the folder has none of this size already: what is pinned doesn't change.
    ///
    /// # Errors
    /// [`CheckpointError::Full`], [`CheckpointError::Io`].
    pub async fn keep(&self, what: Kept, bytes: &[u8]) -> Result<(), CheckpointError> {
        let path = self.kept_path(what);
        let len = bytes.len() as u64;
        if self.size(&path).await? == Some(len) {
            return Ok(());
        }
        let failed = |source| CheckpointError::write(&self.shown(&path), len, source);
        let chunks = Chunks::new(CHUNKS_MAX);
        let mut upload = Upload::start(self.store.as_ref(), path.clone(), len, chunks).await.map_err(failed)?;
        let written = async {
            upload.write(bytes).await?;
            upload.flush().await
        };
        match written.await {
            Ok(()) => upload.complete().await.map(drop).map_err(failed),
            Err(error) => Err(failed(upload.abort(error).await)),
        }
    }

    /// The bytes, or `None` where the folder has none: runs of older programs kept nothing.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub async fn kept(&self, what: Kept) -> Result<Option<Bytes>, CheckpointError> {
        self.get(&self.kept_path(what)).await
    }

    fn kept_path(&self, what: Kept) -> Path {
        self.base.clone().join(what.name())
    }
}
