//! A pool of instances.

use crate::view::present;
use serde::Serialize;
use trainctl_proto::v1;

/// One pool.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Pool {
    /// Its name.
    pub(crate) pool: String,
    /// The pool as jobs list it, if this is one place of it; else the same.
    pub(crate) of: String,
    /// `local`, `static`, `aws` or `gcp`.
    pub(crate) kind: String,
    /// Whether it takes instances back.
    pub(crate) spot: bool,
    /// `own`, `spot` or `on-demand`.
    pub(crate) market: String,
    /// Where; absent: in no cloud's region.
    pub(crate) region: Option<String>,
    /// What is taken away together.
    pub(crate) zone: Option<String>,
    /// US dollars an hour; absent: nothing, or it is not known.
    pub(crate) usd_per_hour: Option<f64>,
    /// The same machine on demand.
    pub(crate) on_demand_usd_per_hour: Option<f64>,
    /// What it would give now, instances in use included.
    pub(crate) capacity: u32,
    /// Instances in use.
    pub(crate) in_use: u32,
    /// How long before an eviction it says so.
    pub(crate) notice_ms: u64,
    /// So far.
    pub(crate) evictions: u32,
    /// Instances of its provider that nobody asked for, found and ended.
    pub(crate) unowned: Vec<String>,
    /// What else there is to know.
    pub(crate) note: Option<String>,
}

impl From<v1::PoolStatus> for Pool {
    fn from(from: v1::PoolStatus) -> Self {
        Self {
            pool: from.pool,
            of: from.of,
            kind: from.kind,
            spot: from.spot,
            market: from.market,
            region: present(from.region),
            zone: present(from.zone),
            usd_per_hour: Some(from.usd_per_hour).filter(|usd| *usd > 0.0),
            on_demand_usd_per_hour: Some(from.on_demand_usd_per_hour).filter(|usd| *usd > 0.0),
            capacity: from.capacity,
            in_use: from.in_use,
            notice_ms: from.notice_ms,
            evictions: from.evictions,
            unowned: from.unowned,
            note: present(from.note),
        }
    }
}
