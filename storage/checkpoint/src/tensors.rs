//! Reading single tensors of a checkpoint, for readers without the memory for a whole state. Every value is
//! checked: a reader's last word is an error if its tensor is not what the manifest says.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest, TensorEntry};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use std::ops::Range;

/// One request: a multiple of an element's size.
const CHUNK_BYTES: u64 = 4 << 20;
/// Requests of one tensor or file under way.
const CHUNKS_MAX: usize = 2;

/// Reads one tensor's values from the first to the last.
pub struct TensorReader {
    object: String,
    expected: Digest,
    hasher: blake3::Hasher,
    chunks: BoxStream<'static, Result<Bytes, CheckpointError>>,
}

impl TensorReader {
    /// The next values, little-endian f32, 4 MiB but for the last; `None` after these.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] when the file is not as the manifest says, at the latest in the place of `None`;
    /// [`CheckpointError::Io`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CheckpointError> {
        if let Some(chunk) = self.chunks.try_next().await? {
            self.hasher.update(&chunk);
            return Ok(Some(chunk));
        }
        let found = Digest::from(self.hasher.finalize());
        if found != self.expected {
            return Err(Damage::Digest { object: self.object.clone(), expected: self.expected, found }.into());
        }
        Ok(None)
    }
}

impl RunFolder {
    /// Reads `tensor` of `file`, both of `manifest`.
    pub fn tensor(&self, manifest: &Manifest, file: &FileEntry, tensor: &TensorEntry) -> TensorReader {
        let bytes = |tensor: &TensorEntry| tensor.bytes().expect("a parsed manifest has possible shapes");
        let all: u64 = file.tensors.iter().map(bytes).sum();
        let before: u64 = file.tensors.iter().take_while(|other| other.name != tensor.name).map(bytes).sum();
        // The values are the end of the file.
        let start = file.bytes.saturating_sub(all) + before;
        let path = self.file_path(manifest.step, file);
        TensorReader {
            object: format!("{}: tensor {:?}", self.shown(&path), tensor.name),
            expected: tensor.digest,
            hasher: blake3::Hasher::new(),
            chunks: self.range(&path, file.bytes, start..start + bytes(tensor)).boxed(),
        }
    }

    /// Where a file of a step's manifest is.
    pub(crate) fn file_path(&self, step: u64, file: &FileEntry) -> Path {
        self.step_path(file.step.unwrap_or(step), &file.name)
    }

    /// A range of an object with this many bytes, in order.
    pub(crate) fn range(
        &self,
        path: &Path,
        object_bytes: u64,
        range: Range<u64>,
    ) -> impl futures::Stream<Item = Result<Bytes, CheckpointError>> + Send + 'static {
        let starts = range.clone().step_by(CHUNK_BYTES as usize);
        let (folder, path) = (self.clone(), path.clone());
        let read = move |start: u64| {
            let (folder, path) = (folder.clone(), path.clone());
            async move {
                let end = range.end.min(start + CHUNK_BYTES);
                match folder.store.get_range(&path, start..end).await {
                    Ok(chunk) if chunk.len() as u64 == end - start => Ok(chunk),
                    other => {
                        folder.check_size(&path, object_bytes).await?;
                        let short = |found: usize| format!("{found} bytes of {} at byte {start}", end - start);
                        let source = match other {
                            Ok(chunk) => short(chunk.len()).into(),
                            Err(error) => error.into(),
                        };
                        Err(CheckpointError::Io { action: "read", object: folder.shown(&path), source })
                    }
                }
            }
        };
        futures::stream::iter(starts).map(read).buffered(CHUNKS_MAX)
    }
}
