//! A fault to be injected: the process aborts at one commit of its store, as if it were killed there.

use super::{Store, StoreError};
use coordinator_core::Record;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its value is the number of the commit, from 1, at which the process aborts: an odd one before the commit, an even one
/// after it.
pub const FAIL_AT_VARIABLE: &str = "TRAINCTL_FAIL_AT_WRITE";

/// Wraps a store and aborts the process at its n-th commit.
pub struct FailAt<S> {
    inner: S,
    at: u64,
    commits: AtomicU64,
}

impl<S: Store> FailAt<S> {
    /// Commits are counted from 1.
    #[must_use]
    pub fn new(inner: S, at: u64) -> Self {
        Self { inner, at, commits: AtomicU64::new(0) }
    }
}

impl<S: Store> Store for FailAt<S> {
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.with_prefix(prefix)
    }

    fn commit(&self, batch: &[Record]) -> Result<(), StoreError> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if number != self.at {
            return self.inner.commit(batch);
        }
        if number.is_multiple_of(2) {
            self.inner.commit(batch)?;
        }
        tracing::warn!(number, "{FAIL_AT_VARIABLE}: aborting at this commit");
        std::process::abort()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}
