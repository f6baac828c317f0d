//! Reading one object as a stream of bytes, its size and digest taken on the way.
//!
//! A thread of its own fetches the object in pieces and hashes them, ahead of the decoder by a bounded number of
//! pieces, so that memory is bounded and hashing costs no time of the decoder's.

use crate::error::DataError;
use crate::manifest::{Object, digest_text};
use crate::place::Place;
use bytes::{Buf as _, Bytes};
use object_store::ObjectStoreExt as _;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Fetched at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// Pieces fetched ahead.
const PIECES_AHEAD: usize = 2;

/// Size and digest of an object's bytes, as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) digest: String,
}

/// An object, being read.
pub(crate) struct ObjectReader {
    pieces: Option<Receiver<Bytes>>,
    piece: Bytes,
    fetcher: Option<JoinHandle<Fetched>>,
}

/// Nothing, where the reader was dropped before the end.
type Fetched = Result<Option<Content>, DataError>;

impl ObjectReader {
    /// Starts to read. With `expected`, another size or digest is an error of [`ObjectReader::finish`]. Dropping the
    /// reader ends the reading.
    pub(crate) fn start(place: &Place, path: &str, expected: Option<&Object>) -> Self {
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let (place, path, expected) = (place.clone(), path.to_owned(), expected.cloned());
        let fetcher = std::thread::spawn(move || {
            let runtime = single_threaded(&place.shown(&path))?;
            runtime.block_on(fetch(&place, &path, expected.as_ref(), &sender))
        });
        Self { pieces: Some(pieces), piece: Bytes::new(), fetcher: Some(fetcher) }
    }

    /// Reads what is left and says what the whole object was. Whoever gets an error from a decoder asks this first:
    /// a failed or changed object is the better explanation.
    pub(crate) fn finish(mut self) -> Result<Content, DataError> {
        for piece in self.pieces.take().into_iter().flatten() {
            drop(piece);
        }
        let fetcher = self.fetcher.take().expect("taken here only, and this consumes the reader");
        let content = fetcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(content.expect("all pieces were taken"))
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty()
            && let Some(piece) = self.pieces.as_ref().and_then(|pieces| pieces.recv().ok())
        {
            self.piece = piece;
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

async fn fetch(place: &Place, path: &str, expected: Option<&Object>, pieces: &SyncSender<Bytes>) -> Fetched {
    let shown = place.shown(path);
    let location = place.location(path);
    let failed = |source| match source {
        object_store::Error::NotFound { .. } => DataError::Missing { object: shown.clone() },
        source => DataError::Store { object: shown.clone(), source },
    };
    let size = place.store.head(&location).await.map_err(failed)?.size;
    if let Some(expected) = expected
        && size != expected.size
    {
        return Err(changed(&shown, "size", format!("{} bytes", expected.size), format!("{size} bytes")));
    }
    let mut hasher = blake3::Hasher::new();
    for start in (0..size).step_by(PIECE_BYTES as usize) {
        let end = size.min(start + PIECE_BYTES);
        let piece = place.store.get_range(&location, start..end).await.map_err(failed)?;
        if piece.len() as u64 != end - start {
            return Err(changed(&shown, "size", format!("{size} bytes"), "fewer while it was read".to_owned()));
        }
        hasher.update(&piece);
        if pieces.send(piece).is_err() {
            return Ok(None);
        }
    }
    let digest = digest_text(&hasher.finalize());
    match expected {
        Some(expected) if digest != expected.digest => Err(changed(&shown, "digest", expected.digest.clone(), digest)),
        _ => Ok(Some(Content { size, digest })),
    }
}

fn changed(object: &str, what: &'static str, expected: String, found: String) -> DataError {
    DataError::Changed { object: object.to_owned(), what, expected, found }
}

fn single_threaded(object: &str) -> Result<tokio::runtime::Runtime, DataError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| DataError::File {
        path: object.to_owned(),
        done: "read",
        source,
    })
}

/// Runs a call of the store to its end, whether or not the caller runs in a runtime of its own.
pub(crate) fn wait<T: Send>(
    shown: &str,
    call: impl Future<Output = Result<T, DataError>> + Send,
) -> Result<T, DataError> {
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| single_threaded(shown)?.block_on(call));
        caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
