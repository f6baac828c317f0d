//! Reading one object as a stream of bytes, its size and digests taken on the way.
//!
//! Pieces are fetched side by side and in order, and hashed as they come, ahead of the decoder by a bounded number, so
//! that memory is bounded and neither the store nor hashing costs time of the decoder's. All pieces are of one version
//! of the object, where the store tells versions apart.

use crate::error::DataError;
use crate::manifest::{Object, digest_text};
use crate::place::Place;
use crate::waiting::{runtime, wait};
use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _};
use std::io::{self, Read};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// Fetched at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// Requests for pieces of one object at a time.
const REQUESTS_AT_ONCE: usize = 3;
/// Pieces fetched and not yet asked for.
const PIECES_AHEAD: usize = 1;

/// An object to be read, and what is known of it. Whatever is known and found otherwise is an error.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Source {
    /// What people call it.
    pub(crate) path: String,
    /// Below the root, where that is not its path.
    pub(crate) stored: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<String>,
    /// 32 hex digits.
    pub(crate) md5: Option<String>,
}

impl Source {
    /// A pinned object.
    pub(crate) fn pinned(object: &Object) -> Self {
        Self {
            path: object.path.clone(),
            stored: object.stored.clone(),
            size: Some(object.size),
            digest: Some(object.digest.clone()),
            md5: None,
        }
    }

    /// Where it lies below the root.
    pub(crate) fn stored(&self) -> &str {
        self.stored.as_deref().unwrap_or(&self.path)
    }

    /// For messages: where it lies, and what it is called if that is something else.
    pub(crate) fn shown(&self, place: &Place) -> String {
        match &self.stored {
            Some(stored) => format!("{} ({})", place.shown(stored), self.path),
            None => place.shown(&self.path),
        }
    }
}

/// Size and digest of an object's bytes, as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) digest: String,
    /// The store's own mark of these bytes.
    pub(crate) version: Option<String>,
}

/// An object, being read.
pub(crate) struct ObjectReader {
    pieces: Receiver<Bytes>,
    piece: Bytes,
    shown: String,
    fetcher: JoinHandle<Fetched>,
}

/// Nothing, where the reader was dropped before the end.
type Fetched = Result<Option<Content>, DataError>;

impl ObjectReader {
    /// Starts to read. What is found otherwise than `source` says is an error of [`ObjectReader::finish`]. Dropping
    /// the reader ends the reading.
    pub(crate) fn start(place: &Place, source: &Source) -> Result<Self, DataError> {
        let (sender, pieces) = channel(PIECES_AHEAD);
        let shown = source.shown(place);
        let (place, source) = (place.clone(), source.clone());
        let fetcher = runtime(&shown)?.spawn(async move { Fetch { place, source }.run(&sender).await });
        Ok(Self { pieces, piece: Bytes::new(), shown, fetcher })
    }

    /// Reads what is left and says what the whole object was. Whoever gets an error from a decoder asks this first:
    /// a failed or changed object is the better explanation.
    pub(crate) fn finish(self) -> Result<Content, DataError> {
        let Self { mut pieces, fetcher, shown, .. } = self;
        let content = wait(&shown, async move {
            while pieces.recv().await.is_some() {}
            fetcher.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        })?;
        Ok(content.expect("all pieces were taken"))
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty()
            && let Some(piece) = futures::executor::block_on(self.pieces.recv())
        {
            self.piece = piece;
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

struct Fetch {
    place: Place,
    source: Source,
}

impl Fetch {
    async fn run(&self, pieces: &Sender<Bytes>) -> Fetched {
        let (meta, first) = self.start().await?;
        self.check("size", self.source.size.map(|size| format!("{size} bytes")), format!("{} bytes", meta.size))?;
        let starts = (PIECE_BYTES..meta.size).step_by(PIECE_BYTES as usize);
        let rest = futures::stream::iter(starts)
            .map(|start| self.piece(start..meta.size.min(start + PIECE_BYTES), &meta))
            .buffered(REQUESTS_AT_ONCE);
        let mut all = std::pin::pin!(futures::stream::iter([Ok(first)]).chain(rest));
        let mut hasher = blake3::Hasher::new();
        let mut md5 = self.source.md5.as_ref().map(|_| Md5::new());
        while let Some(piece) = all.try_next().await? {
            hasher.update(&piece);
            if let Some(md5) = &mut md5 {
                md5.update(&piece);
            }
            if pieces.send(piece).await.is_err() {
                return Ok(None);
            }
        }
        let digest = digest_text(&hasher.finalize());
        self.check("digest", self.source.digest.clone(), digest.clone())?;
        if let Some(md5) = md5 {
            let md5: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            self.check("md5", self.source.md5.clone(), md5)?;
        }
        Ok(Some(Content { size: meta.size, digest, version: self.place.version(&meta) }))
    }

    /// The object's own description, and its first piece.
    async fn start(&self) -> Result<(ObjectMeta, Bytes), DataError> {
        let location = self.place.location(self.source.stored());
        if self.source.size.is_some_and(|size| size > 0) {
            let options = GetOptions { range: Some(GetRange::Bounded(0..PIECE_BYTES)), ..GetOptions::default() };
            match self.place.store.get_opts(&location, options).await {
                Ok(result) => {
                    let meta = result.meta.clone();
                    let bytes = result.bytes().await.map_err(|error| self.failed(error))?;
                    return self.whole(bytes, meta.size.min(PIECE_BYTES)).map(|bytes| (meta, bytes));
                }
                Err(error @ StoreError::NotFound { .. }) => return Err(self.failed(error)),
                // An empty object has no range; its size is told below.
                Err(error) => match self.place.store.head(&location).await {
                    Ok(meta) if Some(meta.size) != self.source.size => return Ok((meta, Bytes::new())),
                    _ => return Err(self.failed(error)),
                },
            }
        }
        let meta = self.place.store.head(&location).await.map_err(|error| self.failed(error))?;
        let end = meta.size.min(PIECE_BYTES);
        let first = if end == 0 { Bytes::new() } else { self.piece(0..end, &meta).await? };
        Ok((meta, first))
    }

    async fn piece(&self, range: std::ops::Range<u64>, meta: &ObjectMeta) -> Result<Bytes, DataError> {
        let len = range.end - range.start;
        let options =
            GetOptions { range: Some(GetRange::Bounded(range)), if_match: meta.e_tag.clone(), ..GetOptions::default() };
        let result = self.place.store.get_opts(&self.place.location(self.source.stored()), options).await;
        let bytes = match result {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        self.whole(bytes.map_err(|error| self.failed(error))?, len)
    }

    fn whole(&self, bytes: Bytes, len: u64) -> Result<Bytes, DataError> {
        if bytes.len() as u64 == len {
            return Ok(bytes);
        }
        Err(self.changed("size", format!("{len} bytes more"), format!("{} while it was read", bytes.len())))
    }

    fn failed(&self, error: StoreError) -> DataError {
        match error {
            StoreError::NotFound { .. } => DataError::Missing { object: self.source.shown(&self.place) },
            StoreError::Precondition { .. } => {
                self.changed("version", "one version".to_owned(), "another one while it was read".to_owned())
            }
            source => DataError::Store { object: self.source.shown(&self.place), source },
        }
    }

    fn check(&self, what: &'static str, expected: Option<String>, found: String) -> Result<(), DataError> {
        match expected {
            Some(expected) if expected != found => Err(self.changed(what, expected, found)),
            _ => Ok(()),
        }
    }

    fn changed(&self, what: &'static str, expected: String, found: String) -> DataError {
        DataError::Changed { object: self.source.shown(&self.place), what, expected, found }
    }
}
