//! An instance: what was asked of its provider, and what the provider said since.

use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

/// One machine (for a local pool: one process) that the scheduler asked for and has not heard the end of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) worker: WorkerId,
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) launched: Timestamp,
    pub(crate) pid: Option<u32>,
    pub(crate) state: InstanceState,
    /// The pool said that it takes it, or it was killed from outside: counted once.
    pub(crate) taken: bool,
    /// After a restart: the provider does not list it.
    #[serde(skip)]
    pub(crate) unlisted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum InstanceState {
    /// Asked for.
    Launching,
    /// The provider started it.
    Up,
    /// Asked to end; asked again when it is still there by then.
    Terminating { again: Timestamp },
}

impl Instance {
    pub(crate) fn terminating(&self) -> bool {
        matches!(self.state, InstanceState::Terminating { .. })
    }
}
