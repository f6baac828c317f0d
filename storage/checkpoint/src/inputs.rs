//! What a run was made from, kept in its folder, so that the folder alone is enough to run it again where its data still
//! is: the data manifest, and the module of a job that trains the user's own. Their digests are pinned in the run's
//! record; the reader compares.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::names;
use crate::upload::{Chunks, Upload};
use bytes::Bytes;
use object_store::path::Path;

/// Chunks of an upload on their way at a time.
const CHUNKS_MAX: usize = 3;

/// An input of a run, stored in its folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunInput {
    /// `data.manifest.json`: byte for byte as the job was submitted with it. A root in it that is relative starts where
    /// `job.data.manifest` says that the manifest was.
    DataManifest,
    /// `module.pt`: the TorchScript file that the job trains.
    Module,
}

impl RunInput {
    fn name(self) -> &'static str {
        match self {
            Self::DataManifest => names::DATA_MANIFEST,
            Self::Module => names::MODULE,
        }
    }
}

impl RunFolder {
    /// Writes these bytes, unless the folder has the file with this size already: what is pinned doesn't change.
    ///
    /// # Errors
    /// [`CheckpointError::Full`], [`CheckpointError::Io`].
    pub async fn write_input(&self, what: RunInput, bytes: &[u8]) -> Result<(), CheckpointError> {
        let path = self.input_path(what);
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

    /// The bytes, or `None` where the folder has none: runs of older programs stored none.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub async fn read_input(&self, what: RunInput) -> Result<Option<Bytes>, CheckpointError> {
        self.get(&self.input_path(what)).await
    }

    fn input_path(&self, what: RunInput) -> Path {
        self.base.clone().join(what.name())
    }
}
