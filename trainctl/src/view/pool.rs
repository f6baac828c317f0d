//! A pool of instances.

use crate::view::present;
use serde::Serialize;
use trainctl_proto::v1;

/// One pool.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Pool {
    /// Its name.
    pub(crate) pool: String,
    /// `local`.
    pub(crate) kind: String,
    /// Whether it takes instances back.
    pub(crate) spot: bool,
    /// What it would give now, instances in use included.
    pub(crate) capacity: u32,
    /// Instances in use.
    pub(crate) in_use: u32,
    /// How long before an eviction it says so.
    pub(crate) notice_ms: u64,
    /// So far.
    pub(crate) evictions: u32,
    /// What else there is to know.
    pub(crate) note: Option<String>,
}

impl From<v1::PoolStatus> for Pool {
    fn from(from: v1::PoolStatus) -> Self {
        Self {
            pool: from.pool,
            kind: from.kind,
            spot: from.spot,
            capacity: from.capacity,
            in_use: from.in_use,
            notice_ms: from.notice_ms,
            evictions: from.evictions,
            note: present(from.note),
        }
    }
}
