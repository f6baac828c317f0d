//! What was decided about a job and why.

use crate::format::rfc3339;
use crate::view::Job;
use serde::Serialize;
use trainctl_proto::v1;

/// One decision.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Decision {
    /// RFC 3339.
    pub(crate) at: Option<String>,
    /// The generation that it was taken in.
    pub(crate) generation: u64,
    /// How far the job was.
    pub(crate) step: u64,
    /// Name of the typed reason.
    pub(crate) kind: String,
    /// What was decided.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: String,
}

impl From<v1::Decision> for Decision {
    fn from(from: v1::Decision) -> Self {
        Self {
            at: rfc3339(from.at_ms),
            generation: from.generation,
            step: from.step,
            kind: from.kind,
            what: from.what,
            why: from.why,
        }
    }
}

/// A job with all its decisions, oldest first.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Explained {
    /// The job now.
    pub(crate) job: Job,
    /// Oldest first.
    pub(crate) decisions: Vec<Decision>,
}
