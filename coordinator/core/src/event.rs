//! What can happen to the scheduler. Facts only: what follows from them is decided in the core.

use crate::corruption::{Differing, Subject};
use crate::ids::{Generation, InstanceId, JobId, PoolName, ProviderName, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use trainctl_jobs::JobSpec;

/// A fact, as the driver learned it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Someone submitted a job that passed every check; the name is not taken (the driver asked first).
    JobSubmitted {
        /// The job's name.
        job: JobId,
        /// As resolved, paths absolute.
        spec: Box<JobSpec>,
        /// The data manifest, byte for byte, handed to every worker.
        manifest_json: String,
    },
    /// Someone cancels the job. Its workers save and leave.
    CancelRequested {
        /// Which job.
        job: JobId,
    },
    /// Save, end the workers, keep the job to go on when the coordinator runs again.
    SuspendRequested,
    /// A pool as configured, or with a new capacity.
    PoolChanged {
        /// The pool as it is now.
        pool: PoolSpec,
    },
    /// The provider started the instance.
    InstanceUp {
        /// Which instance.
        instance: InstanceId,
        /// Its process id, for local ones.
        pid: Option<u32>,
        /// What was got, for a machine that is paid for.
        machine: Option<Machine>,
    },
    /// What an instance costs has moved.
    PriceMoved {
        /// Which instance.
        instance: InstanceId,
        /// From now on.
        price: Price,
    },
    /// The instance is gone for good.
    InstanceDown {
        /// Which instance.
        instance: InstanceId,
        /// Why, as far as the provider can tell.
        cause: DownCause,
    },
    /// The instance could not be started.
    LaunchFailed {
        /// Which instance.
        instance: InstanceId,
        /// What the caller should do about it.
        error: LaunchError,
    },
    /// The provider will take the instance at the deadline (its pool shrank, a drill, a trace).
    EvictionNotice {
        /// Which instance.
        instance: InstanceId,
        /// When it will be gone, best effort.
        deadline: Timestamp,
    },
    /// The provider sees that it may take the instance before long, and gives no notice yet.
    RebalanceRecommended {
        /// Which instance.
        instance: InstanceId,
    },
    /// The driver comes later than it was to: it was stopped, or its disk was. What workers said meanwhile may still
    /// wait to be read, so nobody's silence up to now tells anything.
    Awoke,
    /// What a provider really runs under this cluster's tag: at its start, and on a timer. Nothing is bought from its
    /// pools before the first.
    InstancesListed {
        /// Whose.
        provider: ProviderName,
        /// All of them, with process ids where they have one.
        instances: Vec<(InstanceId, Option<u32>)>,
    },
    /// A worker opened its stream (again).
    WorkerAttached {
        /// Who.
        worker: WorkerId,
        /// Where it runs.
        instance: InstanceId,
        /// Its process id on that instance.
        pid: u32,
        /// Where its peers dial it.
        address: String,
        /// Digest of its numerics.
        fingerprint: String,
        /// What the fingerprint stands for, in words.
        fingerprint_detail: String,
        /// What it holds, if it was at work already.
        holding: Option<Holding>,
    },
    /// A worker's stream broke. Not a death: it trains on and attaches again.
    WorkerDetached {
        /// Who.
        worker: WorkerId,
    },
    /// A worker is alive, and how far.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// How far.
        progress: Progress,
    },
    /// A worker lost the connection to a peer in this generation.
    PeerLost {
        /// Who says so.
        worker: WorkerId,
        /// In which generation.
        generation: Generation,
        /// Whom it lost.
        peer: WorkerId,
        /// What it saw.
        detail: String,
        /// It has heard of a newer planned generation: the peer may just have gone on to that.
        unsure: bool,
    },
    /// A joiner holds state and keeps up with its donor.
    JoinerReady {
        /// Who.
        worker: WorkerId,
        /// Updates applied.
        step: u64,
    },
    /// The first step of a generation is done.
    Resumed {
        /// Who says so.
        worker: WorkerId,
        /// Of which generation.
        generation: Generation,
        /// Updates applied by then.
        step: u64,
        /// Between the last step before and the first after.
        pause_ms: f64,
        /// Steps computed again because of the change.
        steps_repeated: u64,
    },
    /// The held-out split was evaluated.
    Evaluated {
        /// Who says so; every member does, with equal figures.
        worker: WorkerId,
        /// What came out.
        evaluation: Evaluation,
    },
    /// A checkpoint was committed.
    CheckpointCommitted {
        /// Who committed it.
        worker: WorkerId,
        /// Which, and what it cost.
        checkpoint: Checkpoint,
    },
    /// Members of a generation held different states. All of them have dropped theirs.
    StatesDiffer {
        /// Who says so; every member does.
        worker: WorkerId,
        /// In which generation.
        generation: Generation,
        /// Who held what.
        differing: Differing,
    },
    /// What was disputed was computed again, and all members agree.
    StatesAgree {
        /// Who says so.
        worker: WorkerId,
        /// In which generation.
        generation: Generation,
        /// Updates applied.
        step: u64,
        /// Of what.
        subject: Subject,
        /// What all hold.
        digest: String,
    },
    /// A background save did not work; training goes on.
    SaveFailed {
        /// Whose part it was.
        worker: WorkerId,
        /// Of the state after so many updates.
        step: u64,
        /// One line.
        reason: String,
    },
    /// The job asks for NCCL, and a member can't use it: its generation exchanges gradients over TCP.
    NcclFailed {
        /// Who can't.
        worker: WorkerId,
        /// In which generation.
        generation: Generation,
        /// One line.
        reason: String,
    },
    /// A worker is out of its group, as planned. It keeps the state and exits when it is told to.
    WorkerAside {
        /// Who.
        worker: WorkerId,
        /// The generation without it.
        generation: Generation,
        /// Updates applied.
        step: u64,
    },
    /// A worker left, with what it held in a checkpoint, and exits now.
    WorkerLeft {
        /// Who.
        worker: WorkerId,
        /// The generation it had left for.
        generation: Generation,
        /// Updates applied.
        step: u64,
    },
    /// A worker reached the last step, evaluated it, and the final checkpoint is committed.
    WorkerFinished {
        /// Who.
        worker: WorkerId,
        /// The last step.
        step: u64,
        /// Loss of the last step.
        loss: Option<f64>,
        /// Of the final parameters.
        evaluation: Option<Evaluation>,
        /// Of the final parameters, buffers and slots.
        state_digest: String,
    },
    /// A worker can't go on.
    WorkerFailed {
        /// Who.
        worker: WorkerId,
        /// No other worker could do better: fail the job.
        job_fails: bool,
        /// One line: place, expected, found.
        reason: String,
    },
    /// The last lines of a worker's log, as the driver read them: before the `InstanceDown` of one that died, so
    /// that a crash loop can be explained. Optional.
    WorkerLogged {
        /// Whose.
        worker: WorkerId,
        /// A few lines, the newest last.
        lines: String,
    },
    /// Someone wants this worker gone, with no step lost.
    DrainRequested {
        /// Who.
        worker: WorkerId,
    },
    /// A drill: let the pool take the worker's instance.
    EvictRequested {
        /// Who.
        worker: WorkerId,
        /// 0: at once.
        notice_ms: u64,
    },
    /// `next_deadline` has passed.
    Tick,
}

/// Why an instance is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DownCause {
    /// The process ended by itself with this status.
    Exited(i32),
    /// Killed by a signal that the provider did not send: somebody's `kill -9`, or the kernel out of memory.
    Killed(i32),
    /// The pool took it, after its notice or without one.
    Evicted,
    /// We asked for it.
    Terminated,
    /// It was not there any more when we looked.
    Vanished,
}

/// Why a launch failed, and what else that concerns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LaunchError {
    /// What to do about it.
    pub kind: LaunchErrorKind,
    /// What else will fail alike.
    pub scope: Scope,
    /// In the provider's words, one line.
    pub message: String,
}

/// What to do about a failed launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchErrorKind {
    /// Nothing to be had: elsewhere, or later.
    NoCapacity,
    /// The account may not have more: elsewhere, or when something was given back.
    Quota,
    /// The market asks for more than is bid: elsewhere, or later.
    Price,
    /// The provider did not answer, or asked to slow down: the same again, later.
    Transient,
    /// It does not get better by itself: no such program, no permission, expired credentials.
    Configuration,
}

/// How far an error reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The pool's one place that was asked.
    Zone,
    /// All places of the pool's region, of the same market.
    Region,
    /// All places of the pool.
    Pool,
    /// All pools of the provider.
    Provider,
}

/// A pool, or one place of a pool that has several: what can be had there, and for how much.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Unique: the pool's name, followed by its place if it has several (`aws/us-east-1a`).
    pub name: PoolName,
    /// The pool as it is configured and as jobs list it.
    pub of: PoolName,
    /// Where.
    pub place: Place,
    /// On which terms.
    pub market: Market,
    /// What an instance costs there now; absent: nothing, or it is not known. Where a pool's instances differ in
    /// speed: for one of its usual speed.
    pub price: Option<Price>,
    /// How many instances it would hold now.
    pub capacity: u32,
    /// The place really has that capacity. A cloud doesn't tell what it has: it is a bound then, and that it grew says
    /// nothing of what can be had.
    pub capacity_told: bool,
    /// How long before an eviction it gives notice.
    pub notice_ms: u64,
}

impl PoolSpec {
    /// A pool of one place that costs nothing, of the provider `local`.
    #[must_use]
    pub fn local(name: &str, spot: bool, capacity: u32, notice_ms: u64) -> Self {
        Self {
            name: PoolName::from(name),
            of: PoolName::from(name),
            place: Place { provider: ProviderName::from("local"), region: None, zone: None },
            market: if spot { Market::Spot } else { Market::Own },
            price: None,
            capacity,
            capacity_told: true,
            notice_ms,
        }
    }
}

/// Where instances are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Who runs them.
    pub provider: ProviderName,
    /// Such as `us-east-1`. Absent: the machines are one's own, in no cloud's region.
    pub region: Option<String>,
    /// Such as `us-east-1a`: what is taken away together.
    pub zone: Option<String>,
}

/// On which terms instances are had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// One's own machines: nobody takes them away, and they cost nothing more.
    Own,
    /// Taken away at the provider's will.
    Spot,
    /// Not taken away, for the full price.
    OnDemand,
}

/// What an instance costs.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Price {
    /// US dollars an hour, as it is.
    pub usd_per_hour: f64,
    /// The same machine on demand.
    pub on_demand_usd_per_hour: f64,
}

/// What was got for a launch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The provider's own id.
    pub id: String,
    /// The provider's name for its kind, such as `g5.xlarge`.
    pub instance_type: String,
    /// What it costs.
    pub price: Price,
    /// Since when it is paid for, if the provider says; else from when it is heard of.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// What a worker holds when it attaches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// Of this job.
    pub job: JobId,
    /// The newest assignment that it has heard of.
    pub generation: Generation,
    /// Updates applied; absent: it has no state yet.
    pub step: Option<u64>,
    /// It is at the end of the job.
    pub finished: bool,
}

/// How far a worker is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The generation that it trains in.
    pub generation: Generation,
    /// Updates applied; absent: it has no state yet.
    pub step: Option<u64>,
    /// Loss of the newest step.
    pub loss: Option<f64>,
    /// Of the whole group.
    pub samples_per_s: f64,
    /// A newer digest of the state, and the step that it was taken at.
    pub state_digest: Option<(String, u64)>,
    /// What a logical shard takes it; absent before it has computed a few in this generation.
    pub shard_time: Option<ShardTime>,
    /// Steps that changed nothing because they were not finite, over the whole job.
    pub skipped_steps: u64,
    /// Audits of the whole job that passed, as far as the worker knows.
    #[serde(default)]
    pub audits_passed: u64,
}

/// What one logical shard of a training step takes a worker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShardTime {
    /// Computing only, no waiting for peers; the median of the newest ones.
    pub seconds: f64,
    /// Shards that it has timed since it started.
    pub timed: u64,
}

/// The held-out split, evaluated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Of the state after this many updates.
    pub step: u64,
    /// Mean over the held-out samples.
    pub loss: f64,
    /// Share that is right; absent for regression.
    pub accuracy: Option<f64>,
}

/// A committed checkpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Of the state after this many updates.
    pub step: u64,
    /// Bytes in all parts.
    pub bytes: u64,
    /// From the copy to the commit.
    pub seconds: f64,
    /// How long training stood still for it.
    pub stall_ms: f64,
    /// Why it was taken.
    pub why: String,
    /// Of the saved state.
    pub state_digest: String,
    /// When the manifest was there.
    pub committed: Timestamp,
}
