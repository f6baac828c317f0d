//! What a call is refused for, and the one place where that becomes a gRPC status. A hint follows the message on a line
//! of its own that starts with `hint: `.

use coordinator_core::{JobId, Rejection};
use coordinator_provider::UnknownPool;
use tonic::{Code, Status};
use trainctl_jobs::SpecErrors;

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The scheduler does not take it.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// A job's spec is not JSON of a job.
    #[error("job spec: expected a resolved job spec as JSON: {0}")]
    SpecJson(#[source] serde_json::Error),
    /// A job's spec does not hold.
    #[error("{0}")]
    Spec(#[from] SpecErrors),
    /// A job's spec is not resolved.
    #[error("job {job}: expected train.steps to be set, found a spec that was not resolved")]
    Unresolved {
        /// Which.
        job: String,
    },
    /// The manifest is not the one that the spec names.
    #[error("job {job}: data.digest: expected {expected}, found a manifest with {found}")]
    ManifestDigest {
        /// Which.
        job: String,
        /// What the spec says.
        expected: String,
        /// What came with it.
        found: String,
    },
    /// The manifest is none.
    #[error("job {job}: data manifest: {reason}")]
    Manifest {
        /// Which.
        job: String,
        /// What is wrong.
        reason: String,
    },
    /// A job lists a pool that is not there.
    #[error("job {job}: resources.pools: {source}")]
    JobPool {
        /// Which.
        job: String,
        /// Which pool, and which there are.
        source: UnknownPool,
    },
    /// There is no such pool.
    #[error("{0}")]
    Pool(#[from] UnknownPool),
    /// Only own machines join a pool by themselves.
    #[error("pool {pool}: expected a pool of kind \"static\", found one of {kind:?}")]
    NotJoined {
        /// Which.
        pool: String,
        /// Whose.
        kind: String,
    },
    /// A request names no job where it must.
    #[error("{field}: expected {expected}, found nothing")]
    Empty {
        /// Which field.
        field: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A worker says what its token does not prove, or speaks out of turn.
    #[error("attach: expected {expected}, found {found}")]
    Protocol {
        /// What would have been right.
        expected: String,
        /// What came.
        found: String,
    },
    /// A job's logs can't be read.
    #[error("logs of job {job}: {reason}")]
    Logs {
        /// Which.
        job: JobId,
        /// What the system said.
        reason: String,
    },
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Rejected(rejection) => match rejection {
                Rejection::JobExists(_) => Code::AlreadyExists,
                Rejection::UnknownJob(_) | Rejection::UnknownInstance(_) | Rejection::UnknownWorker(_) => {
                    Code::NotFound
                }
                Rejection::JobEnded(_) | Rejection::WorkerLeaving(_) | Rejection::NotLaunching(_) => {
                    Code::FailedPrecondition
                }
                Rejection::WrongWorker { .. } | Rejection::WrongJob { .. } => Code::PermissionDenied,
                Rejection::Stale { .. } => Code::Aborted,
                _ => Code::InvalidArgument,
            },
            Self::SpecJson(_)
            | Self::Spec(_)
            | Self::Unresolved { .. }
            | Self::ManifestDigest { .. }
            | Self::Manifest { .. }
            | Self::JobPool { .. }
            | Self::Empty { .. }
            | Self::Protocol { .. } => Code::InvalidArgument,
            Self::NotJoined { .. } => Code::FailedPrecondition,
            Self::Pool(_) => Code::NotFound,
            Self::Logs { .. } => Code::Internal,
            Self::Stopping => Code::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Rejected(Rejection::JobExists(job)) => {
                return Some(format!("see it with `trainctl show {job}`, or choose another name with --set name=..."));
            }
            Self::Rejected(Rejection::UnknownJob(_)) => "list the jobs with `trainctl ls`",
            Self::Rejected(Rejection::UnknownWorker(_)) => "list the workers with `trainctl worker ls`",
            Self::ManifestDigest { .. } => {
                "the data was pinned anew since; put the digest that `trainctl data show` prints into the job"
            }
            Self::NotJoined { .. } => "the machines of other pools are started by the coordinator itself",
            Self::Pool(_) => "list the pools with `trainctl pool ls`",
            Self::JobPool { .. } => {
                "list the pools with `trainctl pool ls`, or add one to the coordinator's pools.toml"
            }
            Self::Stopping => "submit again when it has started; jobs that it knows go on then",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The one mapping to the wire.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let message = match refusal.hint() {
            Some(hint) => format!("{message}\nhint: {hint}"),
            None => message,
        };
        Status::new(refusal.code(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_on_a_line_of_its_own() {
        let status = Status::from(Refusal::from(Rejection::JobExists(JobId::from("digits"))));
        assert_eq!(status.code(), Code::AlreadyExists);
        let lines: Vec<&str> = status.message().lines().collect();
        assert_eq!(lines[0], "job digits exists already");
        assert!(lines[1].starts_with("hint: see it with `trainctl show digits`"), "{lines:?}");
    }
}
