//! What went wrong without ending a job: workers that held different states or computed a shard differently, saves and
//! NCCL that did not work.

use crate::format::rfc3339;
use crate::view::present;
use serde::Serialize;
use std::collections::BTreeMap;
use trainctl_proto::v1;

/// Workers held different states after the same number of updates, or computed a logical shard differently.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Corruption {
    /// Updates applied.
    pub(crate) step: u64,
    /// `model`: parameters and buffers in memory; `saved`: the copy that was to be saved; `gradient`: the vector of a
    /// logical shard.
    pub(crate) subject: String,
    /// The logical shard; null unless it is about one's vector.
    pub(crate) shard: Option<u32>,
    /// What each worker held, or computed.
    pub(crate) digests: BTreeMap<String, String>,
    /// What the shard's repetition gave; null where that was not shown.
    pub(crate) right: Option<String>,
    /// Workers that were found to be wrong.
    pub(crate) quarantined: Vec<String>,
    /// RFC 3339.
    pub(crate) at: Option<String>,
    /// The step that the job went on from; null until it does.
    pub(crate) back_to: Option<u64>,
    /// Steps computed again because of it; null until that is known.
    pub(crate) steps_repeated: Option<u64>,
}

/// A background save that did not work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct SaveFailure {
    /// Updates applied.
    pub(crate) step: u64,
    /// Whose part it was.
    pub(crate) worker: String,
    /// In its words.
    pub(crate) reason: String,
    /// RFC 3339.
    pub(crate) at: Option<String>,
}

/// A member can't use the NCCL that the job asks for; gradients go over TCP while it is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct NcclFailure {
    /// Who.
    pub(crate) worker: String,
    /// In its words.
    pub(crate) reason: String,
    /// RFC 3339.
    pub(crate) at: Option<String>,
}

impl From<v1::Corruption> for Corruption {
    fn from(from: v1::Corruption) -> Self {
        Self {
            step: from.step,
            subject: from.subject,
            shard: from.shard,
            digests: from.digests.into_iter().collect(),
            right: present(from.right),
            quarantined: from.quarantined,
            at: rfc3339(from.at_ms),
            back_to: from.back_to,
            steps_repeated: from.back_to.map(|_| from.steps_repeated),
        }
    }
}

impl From<v1::SaveFailure> for SaveFailure {
    fn from(from: v1::SaveFailure) -> Self {
        Self { step: from.step, worker: from.worker, reason: from.reason, at: rfc3339(from.at_ms) }
    }
}

impl From<v1::NcclFailure> for NcclFailure {
    fn from(from: v1::NcclFailure) -> Self {
        Self { worker: from.worker, reason: from.reason, at: rfc3339(from.at_ms) }
    }
}
