//! A worker process.

use crate::format::rfc3339;
use crate::view::present;
use serde::Serialize;
use trainctl_proto::v1;

/// One worker.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Worker {
    /// Its id, never used again.
    pub(crate) worker: String,
    /// The job that it works for.
    pub(crate) job: String,
    /// launching, attached, joining, training, draining or gone.
    pub(crate) state: String,
    /// Position in this generation.
    pub(crate) rank: Option<u32>,
    /// First logical shard, and the one after the last.
    pub(crate) shards: Option<[u32; 2]>,
    /// Seconds that one logical shard takes it.
    pub(crate) shard_seconds: Option<f64>,
    /// The newest that it knows.
    pub(crate) generation: u64,
    /// Updates applied.
    pub(crate) step: u64,
    /// Where it was taken from.
    pub(crate) pool: String,
    /// Where it runs.
    pub(crate) instance: String,
    /// Of a local process.
    pub(crate) pid: Option<u32>,
    /// Where its peers dial it.
    pub(crate) address: Option<String>,
    /// RFC 3339.
    pub(crate) launched: Option<String>,
    /// Of its numerics.
    pub(crate) fingerprint: Option<String>,
    /// RFC 3339: when it will be taken.
    pub(crate) notice_deadline: Option<String>,
}

impl From<v1::WorkerStatus> for Worker {
    fn from(from: v1::WorkerStatus) -> Self {
        Self {
            worker: from.worker,
            job: from.job,
            state: from.state,
            rank: from.has_rank.then_some(from.rank),
            shards: from.has_rank.then_some([from.first_shard, from.end_shard]),
            shard_seconds: Some(from.shard_seconds).filter(|seconds| *seconds > 0.0),
            generation: from.generation,
            step: from.step,
            pool: from.pool,
            instance: from.instance,
            pid: Some(from.pid).filter(|pid| *pid != 0),
            address: present(from.address),
            launched: rfc3339(from.launched_ms),
            fingerprint: present(from.fingerprint),
            notice_deadline: rfc3339(from.notice_deadline_ms),
        }
    }
}
