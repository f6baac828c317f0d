//! Telling how far a long reading is.

use std::sync::{Mutex, PoisonError};

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Objects that are through.
    pub objects_done: u64,
    /// Of so many.
    pub objects: u64,
    /// Bytes of those that are through, as stored.
    pub bytes_done: u64,
    /// Of so many, as far as is known.
    pub bytes: u64,
}

/// Counts for whoever wants to be told, from any thread, each count once and in order.
pub(crate) struct Progressing<'a> {
    tell: &'a (dyn Fn(Progress) + Sync),
    so_far: Mutex<Progress>,
}

impl<'a> Progressing<'a> {
    pub(crate) fn new(tell: &'a (dyn Fn(Progress) + Sync), objects: usize, bytes: u64) -> Self {
        let so_far = Progress { objects: objects as u64, bytes, ..Progress::default() };
        tell(so_far);
        Self { tell, so_far: Mutex::new(so_far) }
    }

    /// One more object is through.
    pub(crate) fn done(&self, bytes: u64) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.objects_done += 1;
        so_far.bytes_done += bytes;
        so_far.bytes = so_far.bytes.max(so_far.bytes_done);
        (self.tell)(*so_far);
    }
}
