//! What the scheduler wants done. The driver commits all [`Action::Persist`] of one event in one batch, then does
//! the rest in order; results come back as events.

use crate::corruption::Corruption;
use crate::ids::{Generation, InstanceId, JobId, PoolName, WorkerId};
use serde::{Deserialize, Serialize};

/// One effect.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Write (or remove) one record.
    Persist(Record),
    /// Start an instance. Doing it twice with one id must start one only.
    Launch {
        /// The id to tag it with.
        instance: InstanceId,
        /// The worker that will run on it.
        worker: WorkerId,
        /// From where.
        pool: PoolName,
        /// For which job: its logs go there.
        job: JobId,
        /// The job's newest when this was asked for.
        generation: Generation,
    },
    /// Give the instance back: let it end by itself for so long, then kill it. Unknown ones are fine.
    Terminate {
        /// Which.
        instance: InstanceId,
        /// 0: kill at once.
        grace_ms: u64,
    },
    /// A drill: the pool takes the instance, with this notice.
    Evict {
        /// Which.
        instance: InstanceId,
        /// 0: at once.
        notice_ms: u64,
    },
    /// Tell a worker, if it is attached. What matters is told again when it attaches.
    Send {
        /// Whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
}

/// One key of the store. Values are JSON, so that a person can read the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// `job/digits`, `instance/i17`, `decision/digits/00000042`, `meta/next_instance`.
    pub key: String,
    /// `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// What workers are told. `proto/trainctl/v1/workers.proto` says what each means.
#[derive(Clone, PartialEq, Debug)]
pub enum ToWorker {
    /// The first answer to an attach.
    Welcome {
        /// Which job it works for.
        job: JobId,
        /// The group's numerics; absent: the first worker sets them.
        expect_fingerprint: Option<String>,
    },
    /// A new generation.
    Assign {
        /// Its number.
        generation: Generation,
        /// Drop the step in progress.
        immediate: bool,
        /// In rank order; none: save and leave.
        members: Vec<Member>,
        /// In words, for the worker's log.
        reason: String,
        /// The job's newest: a state from before it is to be dropped.
        rollback: Option<Corruption>,
    },
    /// Fetch the state from these peers, follow the donor, say ready.
    Join {
        /// Who is followed.
        donor: Member,
        /// Who else has the state and gives a share of it.
        others: Vec<Member>,
        /// Roll-backs that the job has seen: what the joiner holds from before the last is to be dropped.
        rollbacks: u64,
    },
    /// There is nothing left to do.
    Exit {
        /// In words, for the worker's log.
        reason: String,
    },
}

/// One member of a generation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub worker: WorkerId,
    /// Where peers dial it.
    pub address: String,
    /// Its first logical shard.
    pub first_shard: u32,
    /// The shard after its last.
    pub end_shard: u32,
}
