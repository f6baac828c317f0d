//! A pool: what it holds, and whether it is worth asking.

use crate::event::PoolSpec;
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};

/// A source of instances.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Pool {
    /// As configured; after a restart its capacity is 0 until the driver announces it again.
    pub(crate) spec: PoolSpec,
    /// Instances that it took.
    pub(crate) evictions: u32,
    #[serde(skip)]
    pub(crate) backoff: Option<Backoff>,
}

/// The pool had no capacity, so many times in a row; it is left alone until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backoff {
    pub(crate) failures: u32,
    pub(crate) until: Timestamp,
}

impl Pool {
    pub(crate) fn new(spec: PoolSpec) -> Self {
        Self { spec, evictions: 0, backoff: None }
    }

    /// It said that it has nothing, and the wait is not over.
    pub(crate) fn resting(&self, now: Timestamp) -> bool {
        self.backoff.is_some_and(|backoff| now < backoff.until)
    }
}
