//! Sending one object: hashed while its bytes come in, in a bounded number of chunks. It appears
//! whole or not at all.

use crate::digest::Digest;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// One request of an upload. Stores want all but the last to be equal and 5 MiB or more.
pub(crate) const CHUNK_BYTES: usize = 8 << 20;

/// How many chunks all uploads of one save may hold together.
#[derive(Clone, Debug)]
pub(crate) struct Chunks(Arc<Semaphore>);

impl Chunks {
    pub(crate) fn new(chunks_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(chunks_max)))
    }

    /// Waits for room; each upload holds the chunk that it fills, so there must be more room than uploads.
    async fn chunk(&self, bytes: usize) -> Chunk {
        let permit = self.0.clone().acquire_owned().await.expect("it is never closed");
        Chunk { bytes: Vec::with_capacity(bytes), _permit: permit }
    }
}

/// Bytes on their way.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Chunk {
    /// Gives its room back when the last copy of the payload is dropped.
    fn into_payload(self) -> PutPayload {
        PutPayload::from(Bytes::from_owner(self))
    }
}

/// An object being written. Small ones go in one request.
pub(crate) struct Upload<'a> {
    store: &'a dyn ObjectStore,
    path: Path,
    hasher: blake3::Hasher,
    chunks: Chunks,
    chunk: Option<Chunk>,
    chunk_bytes: usize,
    multipart: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
}

impl<'a> Upload<'a> {
    pub(crate) async fn start(
        store: &'a dyn ObjectStore,
        path: Path,
        bytes: u64,
        chunks: Chunks,
    ) -> object_store::Result<Self> {
        let is_small = bytes <= CHUNK_BYTES as u64;
        let multipart = if is_small { None } else { Some(store.put_multipart(&path).await?) };
        let chunk_bytes = CHUNK_BYTES.min(bytes as usize);
        let (hasher, sending) = (blake3::Hasher::new(), JoinSet::new());
        Ok(Self { store, path, hasher, chunks, chunk: None, chunk_bytes, multipart, sending })
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> object_store::Result<()> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            if self.chunk.as_ref().is_some_and(|chunk| chunk.bytes.len() == CHUNK_BYTES) {
                self.send().await?;
            }
            let chunk = match &mut self.chunk {
                Some(chunk) => chunk,
                none => none.insert(self.chunks.chunk(self.chunk_bytes).await),
            };
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - chunk.bytes.len()));
            chunk.bytes.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn send(&mut self) -> object_store::Result<()> {
        let (Some(multipart), Some(chunk)) = (&mut self.multipart, self.chunk.take()) else { return Ok(()) };
        self.sending.spawn(multipart.put_part(chunk.into_payload()));
        // What has failed shows early.
        while let Some(sent) = self.sending.try_join_next() {
            sent??;
        }
        Ok(())
    }

    /// All of it is on its way and arrived.
    pub(crate) async fn flush(&mut self) -> object_store::Result<()> {
        if self.multipart.is_some() {
            self.send().await?;
        }
        while let Some(sent) = self.sending.join_next().await {
            sent??;
        }
        Ok(())
    }

    /// Makes the object appear, and says which digest its bytes have.
    pub(crate) async fn complete(mut self) -> object_store::Result<Digest> {
        match &mut self.multipart {
            Some(multipart) => {
                if let Err(error) = multipart.complete().await {
                    return Err(self.abort(error).await);
                }
            }
            None => {
                let payload = self.chunk.take().map(Chunk::into_payload).unwrap_or_default();
                self.store.put(&self.path, payload).await?;
            }
        }
        Ok(self.hasher.finalize().into())
    }

    /// Frees what was sent. The error that led here is the one to report, whatever becomes of that.
    pub(crate) async fn abort(mut self, error: object_store::Error) -> object_store::Error {
        self.sending.shutdown().await;
        if let Some(multipart) = &mut self.multipart
            && let Err(failed) = multipart.abort().await
        {
            tracing::debug!(path = %self.path, %failed, "abort an upload");
        }
        error
    }
}
