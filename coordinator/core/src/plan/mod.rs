//! What should be done, given what is known: pure functions from the state and the time to choices, each with the
//! facts that it rests on. Nothing is changed here; `apply` does what was chosen, then planning goes on until nothing
//! is left to choose. Planning twice without applying gives the same plan, planning after applying gives an empty
//! one, so a lost reminder does no harm and a restart needs no replay.

mod balance;
mod capacity;
mod groups;
mod leave;
mod timers;

pub(crate) use timers::next_deadline;

use crate::decision::{DismissCause, DrainCause};
use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::shares::ShardMove;
use crate::state::{Doom, LossCause, Numerics, Shortage, State, StopPurpose};
use std::collections::BTreeMap;

/// Choices that don't depend on each other, in the order in which to apply them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) choices: Vec<Choice>,
}

/// One thing to do, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Treat a worker as dead.
    Lose { worker: WorkerId, cause: LossCause },
    /// Before the first group: compute with these numerics.
    ChooseNumerics { job: JobId, numerics: Numerics },
    /// Form the first group, or the first after everybody was gone.
    FormGroup { job: JobId, workers: Vec<WorkerId>, missing: u32, waited_ms: u64, held: bool },
    /// Drop the step in progress and go on with these.
    Regroup { job: JobId, workers: Vec<WorkerId>, lost: Vec<WorkerId>, why: String },
    /// Switch to these at a step boundary.
    Change { job: JobId, workers: Vec<WorkerId>, leaving: Vec<(WorkerId, DrainCause)>, added: Vec<WorkerId> },
    /// The same members with other counts of shards, at a step boundary.
    MoveShards {
        job: JobId,
        workers: Vec<WorkerId>,
        counts: Vec<u32>,
        moves: Vec<ShardMove>,
        seconds: BTreeMap<WorkerId, f64>,
        before: f64,
        after: f64,
    },
    /// Everybody saves and leaves.
    Stop { job: JobId, purpose: StopPurpose },
    /// Nobody holds the state any more.
    Recover { job: JobId, why: String, saved: bool },
    /// Fetch the state from this donor.
    Join { worker: WorkerId, donor: WorkerId, instead_of: Option<WorkerId> },
    /// The job ends, or is suspended.
    End { job: JobId, outcome: Outcome },
    /// Send a worker home that is in no group.
    Dismiss { worker: WorkerId, cause: DismissCause },
    /// Give the instance back.
    Terminate { instance: InstanceId, grace_ms: u64 },
    /// Start an instance.
    Launch { job: JobId, pool: PoolName, have: u32, want: u32, free: u32, passed_over: Vec<PoolName> },
    /// Note why the job has fewer workers than it wants, or that it has all.
    Note { job: JobId, shortage: Option<Shortage> },
    /// Let an older job have the capacity.
    GiveBack { worker: WorkerId, to: JobId },
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Succeeded { workers: u32, digest: String },
    Failed(Doom),
    Cancelled,
    Suspended,
}

/// The first kind of choice that there is: lost workers before groups, groups before who goes home, that before
/// buying, since each rests on the ones before.
pub(crate) fn plan(state: &State, now: Timestamp) -> Plan {
    let stages: [fn(&State, Timestamp) -> Vec<Choice>; 5] =
        [timers::losses, groups::changes, leave::dismissals, leave::terminations, capacity::purchases];
    let choices = stages.iter().map(|stage| stage(state, now)).find(|choices| !choices.is_empty());
    Plan { choices: choices.unwrap_or_default() }
}
