//! Outside events that can't be; none changes a state.

use crate::ids::{Generation, InstanceId, JobId, WorkerId};

/// Why an event was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// A job of this name exists.
    #[error("job {0} exists already")]
    JobExists(JobId),
    /// No such job.
    #[error("no job {0} is known")]
    UnknownJob(JobId),
    /// The job has ended.
    #[error("job {0} has ended")]
    JobEnded(JobId),
    /// No such instance, or it is gone.
    #[error("no instance {0} is known")]
    UnknownInstance(InstanceId),
    /// No such worker, or it is gone.
    #[error("no worker {0} is known")]
    UnknownWorker(WorkerId),
    /// The worker is on its way out already.
    #[error("worker {0} is on its way out already")]
    WorkerLeaving(WorkerId),
    /// The instance is another worker's.
    #[error("instance {instance}: expected worker {expected}, found {found}")]
    WrongWorker {
        /// Where.
        instance: InstanceId,
        /// Whose it is.
        expected: WorkerId,
        /// Who attached.
        found: WorkerId,
    },
    /// The worker holds another job's state.
    #[error("worker {worker}: expected a worker of job {expected}, found one that holds the state of {found}")]
    WrongJob {
        /// Who.
        worker: WorkerId,
        /// Whose it is.
        expected: JobId,
        /// What it holds.
        found: JobId,
    },
    /// What an instance or a pool is said to cost is no price.
    #[error("{of}: expected a price of 0 dollars an hour or more")]
    NoPrice {
        /// Which.
        of: String,
    },
    /// It speaks without having attached.
    #[error("worker {0} has not attached")]
    NotAttached(WorkerId),
    /// A generation that was never handed out.
    #[error("worker {worker}: expected a generation up to {newest}, found {found}")]
    FutureGeneration {
        /// Who.
        worker: WorkerId,
        /// The job's newest.
        newest: Generation,
        /// What it named.
        found: Generation,
    },
    /// A message of a generation that is over, or of a worker that was written off.
    #[error("worker {worker}: {message} came too late")]
    Stale {
        /// Who.
        worker: WorkerId,
        /// Which message.
        message: &'static str,
    },
    /// A message that the worker's standing rules out.
    #[error("worker {worker}: {message} is not for one in its standing")]
    OutOfPlace {
        /// Who.
        worker: WorkerId,
        /// Which message.
        message: &'static str,
    },
    /// It says that it finished before the last step.
    #[error("worker {worker}: expected to finish at step {expected}, found {found}")]
    WrongLastStep {
        /// Who.
        worker: WorkerId,
        /// The job's last step.
        expected: u64,
        /// What it said.
        found: u64,
    },
    /// A figure that is no number.
    #[error("worker {worker}: expected finite figures in {message}")]
    NotFinite {
        /// Who.
        worker: WorkerId,
        /// Which message.
        message: &'static str,
    },
    /// The instance is past its launch.
    #[error("instance {0} was launched already")]
    NotLaunching(InstanceId),
}
