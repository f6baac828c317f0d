//! Every decision with its typed reason: the facts that it rests on. `explain` puts them into words.

use crate::corruption::Differing;
use crate::event::LaunchError;
use crate::ids::{Generation, InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::policy::Outlook;
use crate::shares::ShardMove;
use crate::state::{Doom, LossCause, Reach, Shortage, StopPurpose};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One decision about a job.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Counts the job's decisions from 1.
    pub number: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// The job's newest generation after it.
    pub generation: Generation,
    /// Most updates applied when it was taken.
    pub step: u64,
    /// What was decided and why.
    pub reason: Reason,
}

/// What was decided, with the facts that it rests on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A job came in.
    Queue {
        /// Unended jobs before it.
        ahead: u32,
    },
    /// An instance is started.
    Launch {
        /// Its worker.
        worker: WorkerId,
        /// The instance.
        instance: InstanceId,
        /// From this pool.
        pool: PoolName,
        /// Workers that count, before it.
        have: u32,
        /// Workers that the job takes.
        want: u32,
        /// Free in the pool, before it.
        free: u32,
        /// Better offers that have nothing.
        passed_over: Vec<PoolName>,
        /// Why now, and why there.
        #[serde(default)]
        cause: LaunchCause,
        /// What it costs; absent: nothing, or it is not known.
        #[serde(default)]
        terms: Option<LaunchTerms>,
    },
    /// The deadline can't wait for spot any more: what the job lacks is bought on demand.
    Hurry {
        /// What that rests on.
        outlook: Outlook,
    },
    /// The deadline can wait for spot again.
    Relax {
        /// What that rests on.
        outlook: Outlook,
    },
    /// A place can't start workers, and that does not get better by itself.
    Reject {
        /// Where it was tried.
        pool: PoolName,
        /// What else fails alike.
        reach: Reach,
        /// In its words.
        message: String,
    },
    /// The job waits for capacity.
    Wait {
        /// Why it gets none.
        shortage: Shortage,
    },
    /// A pool had nothing.
    BackOff {
        /// Which pool.
        pool: PoolName,
        /// It is asked again after so long.
        wait_ms: u64,
        /// Times in a row.
        failures: u32,
        /// What is left alone; absent: the pool.
        #[serde(default)]
        reach: Option<Reach>,
        /// What its provider said; absent: that it had no capacity.
        #[serde(default)]
        error: Option<LaunchError>,
    },
    /// The first group, or the first after everybody was gone.
    FormGroup {
        /// In rank order.
        workers: Vec<WorkerId>,
        /// Launched ones that are not attached.
        missing: u32,
        /// Since the first attached.
        waited_ms: u64,
        /// After everybody was gone.
        recovery: bool,
        /// They hold the state, nothing is loaded.
        held: bool,
    },
    /// A worker fetches the state.
    Join {
        /// Who.
        worker: WorkerId,
        /// From whom.
        donor: WorkerId,
        /// The donor before, which can't any more.
        instead_of: Option<WorkerId>,
    },
    /// Joiners become members.
    AddMembers {
        /// Who.
        workers: Vec<WorkerId>,
        /// The group's size after it.
        world_size: u32,
    },
    /// Members leave at a step boundary.
    Drain {
        /// Who, each with its cause.
        workers: Vec<(WorkerId, DrainCause)>,
        /// Joiners that come in with the same change.
        added: Vec<WorkerId>,
        /// The group's size after it.
        world_size: u32,
    },
    /// Slow members give shards to fast ones.
    MoveShards {
        /// Who gives how many to whom.
        moves: Vec<ShardMove>,
        /// What one shard takes each member.
        seconds: BTreeMap<WorkerId, f64>,
        /// What computing a step took.
        before_seconds: f64,
        /// What it should take.
        after_seconds: f64,
    },
    /// A member is lost, the others go on.
    GoOnWithout {
        /// Who is lost.
        workers: Vec<WorkerId>,
        /// What was seen.
        why: String,
        /// The group's size after it.
        world_size: u32,
    },
    /// Members held different states: nobody's counts any more.
    RollBack {
        /// Who held what.
        differing: Differing,
        /// Those that a majority shows to be wrong.
        quarantined: Vec<WorkerId>,
    },
    /// What was disputed was computed again.
    Settle {
        /// Updates applied.
        step: u64,
        /// What all hold now.
        digest: String,
        /// Those who held something else before.
        quarantined: Vec<WorkerId>,
    },
    /// A pool gave several workers that held wrong states.
    Distrust {
        /// Which pool.
        pool: PoolName,
        /// So many.
        quarantined: u32,
    },
    /// A background save did not work.
    SaveFailed {
        /// Whose part it was.
        worker: WorkerId,
        /// Of the state after so many updates.
        step: u64,
        /// In its words.
        reason: String,
    },
    /// A member can't use the NCCL that the job asks for.
    NcclFailed {
        /// Which member.
        worker: WorkerId,
        /// In its words.
        reason: String,
    },
    /// A worker is written off.
    GiveUp {
        /// Who.
        worker: WorkerId,
        /// Why.
        cause: LossCause,
    },
    /// Everybody saves and leaves.
    SaveAndLeave {
        /// What becomes of the job then.
        purpose: StopPurpose,
        /// Who.
        workers: Vec<WorkerId>,
    },
    /// Everybody saves and leaves, or nobody is bought, since the budget covers no more.
    KeepBudget {
        /// What the job may pay.
        budget_usd: f64,
        /// What it has paid.
        paid_usd: f64,
        /// What it pays in an hour.
        usd_per_hour: f64,
        /// What saving and leaving can cost.
        reserve_usd: f64,
        /// Who leaves.
        workers: Vec<WorkerId>,
    },
    /// A job that its budget had ended goes on with a larger one.
    RaiseBudget {
        /// What it may pay now; absent: anything.
        budget_usd: Option<f64>,
        /// What it has paid.
        paid_usd: f64,
    },
    /// Nobody who holds the state is left.
    Recover {
        /// What happened to the last.
        why: String,
        /// They saved before.
        saved: bool,
    },
    /// A worker's numerics are not the group's.
    RefuseNumerics {
        /// Who.
        worker: WorkerId,
        /// From this pool.
        pool: PoolName,
        /// The group's, in words.
        expected: String,
        /// The worker's, in words.
        found: String,
    },
    /// A pool gives workers with other numerics only.
    StopBuying {
        /// Which pool.
        pool: PoolName,
        /// Workers in a row.
        refused: u32,
    },
    /// An instance is not needed.
    Dismiss {
        /// Its worker.
        worker: WorkerId,
        /// Why.
        cause: DismissCause,
    },
    /// A drill was asked for.
    Drill {
        /// The worker to be evicted.
        worker: WorkerId,
        /// With so much notice.
        notice_ms: u64,
    },
    /// After a restart of the coordinator.
    Adopt {
        /// A worker that attached again.
        worker: WorkerId,
        /// Updates applied.
        step: Option<u64>,
    },
    /// A suspended job goes on.
    Resume,
    /// The job ended well.
    Succeed {
        /// Members that finished.
        workers: u32,
        /// The digest that all of them have.
        digest: String,
    },
    /// The job can't go on.
    Fail {
        /// Why.
        doom: Doom,
    },
    /// Someone cancelled the job.
    Cancel,
    /// The coordinator is to stop and keep the job.
    Suspend,
}

/// Why an instance is started now, and there.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LaunchCause {
    /// The job lacks a worker, and this is the best offer.
    #[default]
    Best,
    /// Another zone is nearly as good and has fewer of the job's workers, so that they can't be taken all at once.
    Spread {
        /// The best by its score.
        best: PoolName,
        /// The job's workers in its zone.
        there: u32,
        /// The job's workers in this one.
        here: u32,
    },
    /// The deadline can't wait for anything that is taken away.
    Deadline,
    /// It is to take another's place.
    InsteadOf {
        /// Whose.
        worker: WorkerId,
        /// Why.
        why: ReplaceCause,
    },
}

/// Why one worker is to take another's place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReplaceCause {
    /// It costs less, with what evictions are expected to cost.
    Cheaper {
        /// An hour of the one that goes.
        before_usd_per_hour: f64,
        /// An hour of the one that comes.
        after_usd_per_hour: f64,
    },
    /// The other's provider sees that it may take it before long.
    AtRisk,
}

/// What an instance costs, as it was offered.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct LaunchTerms {
    /// US dollars an hour.
    pub usd_per_hour: f64,
    /// The same machine on demand.
    pub on_demand_usd_per_hour: f64,
    /// Evictions of one instance to be expected in an hour, from what was seen there.
    pub evictions_per_hour: f64,
    /// US dollars for an hour's work at the job's usual speed, with what evictions are expected to cost.
    pub score_usd_per_hour: f64,
}

/// Why a member leaves as planned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum DrainCause {
    /// Its pool takes it.
    Notice {
        /// So long after the decision.
        left_ms: u64,
    },
    /// Someone asked for it.
    Asked,
    /// A job that comes first needs the capacity.
    GiveBack {
        /// Which.
        to: JobId,
    },
    /// Another takes its place.
    Replaced {
        /// Which.
        by: WorkerId,
        /// Why.
        why: ReplaceCause,
    },
    /// The deadline is met without it.
    NotNeeded {
        /// Time to spare without it.
        slack_ms: u64,
    },
}

/// Why a worker outside the group is sent home.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum DismissCause {
    /// Its pool takes it.
    Notice,
    /// Someone asked for it.
    Asked,
    /// Its numerics are not the group's.
    OtherNumerics,
    /// A job that comes first needs the capacity.
    OlderJob {
        /// Which.
        job: JobId,
    },
    /// Another takes its place.
    Replaced {
        /// Which.
        by: WorkerId,
        /// Why.
        why: ReplaceCause,
    },
    /// The deadline is met without it.
    NotNeeded {
        /// Time to spare without it.
        slack_ms: u64,
    },
    /// The deadline can't wait for it to start.
    TooLate,
    /// The others train without it.
    HandedOver,
    /// The job stops.
    JobStops,
    /// The job has ended.
    JobEnded,
}

impl Decision {
    /// The reason's name, in snake_case.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.reason.kind()
    }

    /// What was decided, one clause.
    #[must_use]
    pub fn what(&self) -> String {
        self.reason.what()
    }

    /// Why, one clause.
    #[must_use]
    pub fn why(&self) -> String {
        self.reason.why()
    }
}
