//! Every decision with its typed reason: the facts that it rests on. `explain` puts them into words.

use crate::corruption::Differing;
use crate::ids::{Generation, InstanceId, JobId, PoolName, Timestamp, WorkerId};
use crate::shares::ShardMove;
use crate::state::{Doom, LossCause, Shortage, StopPurpose};
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
        /// Pools of higher preference that have nothing.
        passed_over: Vec<PoolName>,
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

/// Why a member leaves as planned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DrainCause {
    /// Its pool takes it.
    Notice {
        /// So long after the decision.
        left_ms: u64,
    },
    /// Someone asked for it.
    Asked,
}

/// Why a worker outside the group is sent home.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DismissCause {
    /// Its pool takes it.
    Notice,
    /// Someone asked for it.
    Asked,
    /// Its numerics are not the group's.
    OtherNumerics,
    /// An older job needs the capacity.
    OlderJob {
        /// Which.
        job: JobId,
    },
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
