//! A committed checkpoint, as its job's status lists it.

use crate::format::rfc3339;
use serde::Serialize;
use trainctl_proto::v1;

/// One committed checkpoint.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Checkpoint {
    /// Updates applied.
    pub(crate) step: u64,
    /// Of all parts.
    pub(crate) bytes: u64,
    /// From the copy to the commit.
    pub(crate) seconds: f64,
    /// How long training stood still.
    pub(crate) stall_ms: f64,
    /// `every 500 steps`, `drain`, `final`.
    pub(crate) why: String,
    /// Of the saved state.
    pub(crate) state_digest: String,
    /// RFC 3339.
    pub(crate) committed: Option<String>,
}

impl From<v1::Checkpoint> for Checkpoint {
    fn from(from: v1::Checkpoint) -> Self {
        Self {
            step: from.step,
            bytes: from.bytes,
            seconds: from.seconds,
            stall_ms: from.stall_ms,
            why: from.why,
            state_digest: from.state_digest,
            committed: rfc3339(from.committed_ms),
        }
    }
}
