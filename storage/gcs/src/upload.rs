//! An upload in parts, several at a time: each part is an object of its own beside the one to come, and at the end the
//! service joins them ("parallel composite upload", <https://cloud.google.com/storage/docs/composite-objects>). The
//! service's other way, one resumable stream, would send part after part.

use crate::error::Doing;
use crate::json::Json;
use crate::{STORE, put_result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use google_cloud_storage::client::Storage;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use std::fmt;
use std::sync::Arc;

/// Objects that the service joins at once.
const JOINED_MAX: usize = 32;

pub(crate) struct Upload {
    storage: Storage,
    json: Arc<Json>,
    bucket: String,
    location: Path,
    /// Tells this upload's parts from those of others of the same object.
    nonce: u64,
    parts: usize,
    /// Objects to be removed at the end, however it ends.
    temporary: Vec<Path>,
    ended: bool,
}

impl Upload {
    pub(crate) fn start(storage: Storage, json: Arc<Json>, bucket: String, location: Path) -> Self {
        let (nonce, parts, temporary, ended) = (rand::random(), 0, Vec::new(), false);
        Self { storage, json, bucket, location, nonce, parts, temporary, ended }
    }

    fn temporary(&mut self, what: &str, number: usize) -> Path {
        let path = Path::from(format!("{}.{what}-{:016x}-{number:05}", self.location, self.nonce));
        self.temporary.push(path.clone());
        path
    }

    /// Joins `sources`, more than the service takes at once by way of objects in between.
    async fn join(&mut self, mut sources: Vec<Path>) -> Result<PutResult> {
        let mut made = 0;
        while sources.len() > JOINED_MAX {
            let mut joined = Vec::new();
            for group in sources.chunks(JOINED_MAX) {
                let path = self.temporary("joined", made);
                made += 1;
                self.json.compose(group, &path).await?;
                joined.push(path);
            }
            sources = joined;
        }
        self.json.compose(&sources, &self.location).await
    }

    async fn clean_up(&mut self) -> Result<()> {
        let removals = self.temporary.iter().map(|path| self.json.delete(path));
        let failed = join_all(removals).await.into_iter().find_map(|removed| match removed {
            // A part whose upload was given up before it was an object.
            Ok(()) | Err(Error::NotFound { .. }) => None,
            Err(error) => Some(error),
        });
        self.temporary.clear();
        failed.map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("location", &self.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let path = self.temporary("part", self.parts);
        self.parts += 1;
        let bytes = Bytes::from(data);
        let write = self
            .storage
            .write_object(&self.bucket, path.as_ref(), bytes.clone())
            .with_resumable_upload_threshold(usize::MAX)
            .with_idempotency(true);
        async move {
            let crc32c = crc32c::crc32c(&bytes);
            let sent = write.with_known_crc32c(crc32c).send_buffered().await;
            sent.map(drop).map_err(|source| Doing::Other.error(&path, source))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if std::mem::replace(&mut self.ended, true) {
            let source = format!("{}: the upload has ended", self.location).into();
            return Err(Error::Generic { store: STORE, source });
        }
        let put = if self.parts == 0 {
            let write = self.storage.write_object(&self.bucket, self.location.as_ref(), Bytes::new());
            let sent = write.with_known_crc32c(0_u32).send_buffered().await;
            sent.map(|object| put_result(&object)).map_err(|source| Doing::Other.error(&self.location, source))
        } else {
            let parts = self.temporary.clone();
            self.join(parts).await
        };
        // What is joined is whole, whatever becomes of its parts.
        let cleaned = self.clean_up().await;
        let put = put?;
        cleaned?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.ended = true;
        self.clean_up().await
    }
}
