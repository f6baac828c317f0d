//! What should be done, given what is known: pure functions from the state and the time to choices, each with the
//! facts that it rests on. Nothing is changed here; `apply` does what was chosen, then planning goes on until nothing
//! is left to choose. Planning twice without applying gives the same plan, planning after applying gives an empty
//! one, so a lost reminder does no harm and a restart needs no replay.

mod balance;
mod capacity;
mod fleet;
mod groups;
mod leave;
mod offers;
mod swaps;
mod timers;
mod yields;

use capacity::Asked;
pub(crate) use leave::spare;
pub(crate) use timers::{next_deadline, reckon};

use crate::decision::{DismissCause, DrainCause, LaunchCause, LaunchTerms, ReplaceCause};
use crate::ids::{InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::policy::Outlook;
use crate::shares::ShardMove;
use crate::state::{Departure, Doom, Job, LossCause, Numerics, Shortage, State, StopPurpose, Submission};
use std::collections::BTreeMap;

/// Choices that don't depend on each other, in the order in which to apply them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) choices: Vec<Choice>,
}

impl Plan {
    /// It only notes what is lacking, and nothing rests on that but who is too large for its pools.
    pub(crate) fn is_last(&self, state: &State) -> bool {
        let too_large = |shortage: Option<&Shortage>| matches!(shortage, Some(Shortage::TooSmall { .. }));
        self.choices.iter().all(|choice| match choice {
            Choice::Note { job, shortage } => {
                let before = state.job(job).and_then(|job| job.shortage.as_ref());
                !too_large(before) && !too_large(shortage.as_ref())
            }
            _ => false,
        })
    }
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
    Launch(Box<Purchase>),
    /// Note why the job has fewer workers than it wants, or that it has all.
    Note { job: JobId, shortage: Option<Shortage> },
    /// Let a worker go, so that others can come or nobody need pay for it.
    Depart { worker: WorkerId, departure: Departure },
    /// From now on what the job lacks is bought on demand, or no longer is.
    Hurry { job: JobId, hurried: bool, outlook: Outlook },
}

impl Choice {
    /// It follows from time or the market alone, and need not be done to the second: a timer finds it soon enough.
    pub(crate) fn may_wait(&self) -> bool {
        match self {
            Self::Launch(purchase) => purchase.replaces.is_some(),
            Self::Hurry { .. } => true,
            Self::Depart { departure, .. } => match departure {
                Departure::TooLate | Departure::NotNeeded { .. } => true,
                Departure::Replaced { cause, .. } => *cause != ReplaceCause::AtRisk,
                _ => false,
            },
            _ => false,
        }
    }
}

/// An instance to start, and why there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Purchase {
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) have: u32,
    pub(crate) want: u32,
    pub(crate) free: u32,
    pub(crate) passed_over: Vec<PoolName>,
    pub(crate) cause: LaunchCause,
    pub(crate) terms: Option<LaunchTerms>,
    /// Whose place it is to take.
    pub(crate) replaces: Option<WorkerId>,
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
/// buying, since each rests on the ones before. Only jobs that were touched since the last plan was done can have any.
///
/// When capacity is short there are many jobs that would buy, and nothing that they could: only those are asked of which
/// something changed. If one of them gets anything, then all are asked, since others may come first.
pub(crate) fn plan(state: &State, now: Timestamp) -> Plan {
    let choices = before_purchases(state, now, &state.touched()).unwrap_or_else(|| {
        let all = || capacity::purchases(state, now, &state.all_buyers(), Asked::Together);
        if state.marks.all_short() {
            return all();
        }
        let choices = capacity::purchases(state, now, &state.buyers(), Asked::Changed);
        let notes_only = choices.iter().all(|choice| matches!(choice, Choice::Note { .. }));
        if notes_only { choices } else { all() }
    });
    Plan { choices }
}

/// The same with every job looked at: what [`plan`] must come to, but that purchases may wait for the next look at all
/// jobs that lack workers.
pub(crate) fn plan_everything(state: &State, now: Timestamp) -> Plan {
    let all = state.queue();
    let purchases = || match state.short_review() {
        None => capacity::purchases(state, now, &all, Asked::Together),
        Some(_) => Vec::new(),
    };
    Plan { choices: before_purchases(state, now, &all).unwrap_or_else(purchases) }
}

type Stage = fn(&State, Timestamp, &[(&Job, &Submission)]) -> Vec<Choice>;

fn before_purchases(state: &State, now: Timestamp, touched: &[(&Job, &Submission)]) -> Option<Vec<Choice>> {
    let stages: [Stage; 4] = [timers::losses, groups::changes, leave::dismissals, leave::terminations];
    stages.iter().map(|stage| stage(state, now, touched)).find(|choices| !choices.is_empty())
}
