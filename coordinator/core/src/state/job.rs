//! A job: its state as an enum that carries its data, and what is known of its progress.

use crate::corruption::{Corruption, Differing, NcclFailure, SaveFailure};
use crate::event::{Checkpoint, Evaluation, Place, PoolSpec};
use crate::ids::{Generation, JobId, PoolName, Timestamp, WorkerId};
use crate::policy::Pace;
use crate::settings::Settings;
use crate::state::{Group, Rejected};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use trainctl_jobs::{JobSpec, NumericsSpec, OnDemandSpec, ShardsSpec, TrainSpec};

/// What was submitted. Never changes, so it is a record of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Submission {
    /// Place in the queue.
    pub(crate) order: u64,
    pub(crate) at: Timestamp,
    pub(crate) spec: JobSpec,
    pub(crate) manifest_json: String,
}

/// A job after its submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) state: JobState,
    /// The newest that was handed out.
    pub(crate) generation: Generation,
    /// When its first step was done.
    pub(crate) started: Option<Timestamp>,
    pub(crate) wish: Option<Wish>,
    /// It can't go on; it ends with this reason at the next planning.
    pub(crate) doom: Option<Doom>,
    pub(crate) numerics: Option<Numerics>,
    pub(crate) progress: JobProgress,
    pub(crate) counters: Counters,
    /// What members said at the end.
    pub(crate) finishes: BTreeMap<WorkerId, Finish>,
    /// When the first of them said so.
    pub(crate) first_finish: Option<Timestamp>,
    /// Workers with other numerics in a row, for each pool.
    pub(crate) refusals: BTreeMap<PoolName, u32>,
    /// Why it waits for capacity, said once for each change.
    pub(crate) shortage: Option<Shortage>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// The newest, by number.
    #[serde(default)]
    pub(crate) corruptions: Vec<Corruption>,
    /// Workers that held a wrong state, for each pool.
    #[serde(default)]
    pub(crate) quarantines: BTreeMap<PoolName, u32>,
    /// The newest, until a checkpoint commits.
    #[serde(default)]
    pub(crate) save_failure: Option<SaveFailure>,
    /// Workers that could not use the NCCL that the job asks for. Those that are members keep the job from it.
    #[serde(default)]
    pub(crate) nccl_failures: Vec<NcclFailure>,
    /// When shards were last moved for speed.
    #[serde(default)]
    pub(crate) moved: Option<Timestamp>,
    /// Steps a second, as measured.
    #[serde(default)]
    pub(crate) pace: Pace,
    /// The measure that is being taken.
    #[serde(skip)]
    pub(crate) stretch: Option<Stretch>,
    /// The deadline can't wait for spot.
    #[serde(default)]
    pub(crate) hurried: bool,
    /// What it can't use, as providers said.
    #[serde(default)]
    pub(crate) rejected: Vec<Rejected>,
}

/// How far a group came in a while: a measure of its pace once it is long enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) generation: Generation,
    pub(crate) from: Timestamp,
    pub(crate) step: u64,
}

/// Queued -> Provisioning -> Rendezvous -> Running <-> Recovering -> Succeeded | Failed | Cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum JobState {
    /// It has no instance.
    Queued,
    /// Instances were asked for, no worker has attached.
    Provisioning,
    /// Workers are attached, too few for a group yet.
    Rendezvous {
        first_attached: Timestamp,
    },
    /// A group was formed.
    Running {
        group: Group,
    },
    /// The group was told to save and leave. It has no members; its workers are all leaving.
    Stopping {
        group: Group,
        purpose: StopPurpose,
    },
    /// It had a group and nobody is left who holds the state.
    Recovering {
        first_attached: Option<Timestamp>,
        cause: String,
    },
    /// Saved and ended until a coordinator starts again.
    Suspended {
        at: Timestamp,
    },
    Succeeded {
        at: Timestamp,
    },
    Failed {
        at: Timestamp,
        reason: String,
    },
    Cancelled {
        at: Timestamp,
    },
}

/// What becomes of a job after its group saved and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopPurpose {
    /// It ends.
    Cancel,
    /// It waits for the next start of a coordinator.
    Suspend,
    /// Its last holders are taken: it goes on with new ones.
    Relocate,
    /// It fails: what is left of its budget is what leaving can cost.
    Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    Cancel,
    Suspend,
}

/// Why a job can't go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Doom {
    /// What is left of its budget is what saving and leaving can cost.
    Budget {
        /// What it may pay.
        budget_usd: f64,
        /// What it had paid by then.
        paid_usd: f64,
    },
    /// A worker says that no other could do better.
    WorkerSays {
        /// Which.
        worker: WorkerId,
        /// In its words.
        reason: String,
    },
    /// A pool says that launching will never work.
    LaunchRejected {
        /// Which pool.
        pool: PoolName,
        /// In its words.
        reason: String,
    },
    /// Instances die again and again with no step done.
    CrashLoop {
        /// So many in a row.
        deaths: u32,
        /// The last of them.
        last: String,
    },
    /// No pool of the job gives workers with the group's numerics, and none is left.
    NoMatchingNumerics {
        /// The group's.
        expected: String,
    },
    /// Workers hold different states again and again.
    Corruption {
        /// The newest time.
        differing: Differing,
        /// How often steps were repeated because of it, with nothing agreed in between.
        repetitions: u32,
    },
    /// Every pool of the job gave workers that held wrong states.
    NoTrustedPool,
    /// Members finished with different bits.
    UnequalDigests {
        /// Each worker's digest.
        digests: BTreeMap<WorkerId, String>,
    },
}

/// The numerics that the job's state was computed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numerics {
    pub(crate) fingerprint: String,
    pub(crate) detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobProgress {
    /// Updates applied, as last heard; falls back when the group starts again from a checkpoint.
    pub(crate) step: u64,
    /// Most that it ever was.
    pub(crate) step_max: u64,
    pub(crate) loss: Option<f64>,
    #[serde(skip)]
    pub(crate) samples_per_s: f64,
    pub(crate) evaluation: Option<Evaluation>,
    /// A digest of the state, and the step that it was taken at.
    pub(crate) state_digest: Option<(String, u64)>,
    /// Most that any worker said.
    #[serde(default)]
    pub(crate) skipped_steps: u64,
    /// Most that any worker said, as of the newest record.
    #[serde(default)]
    pub(crate) audits_passed: u64,
    /// The same since.
    #[serde(skip)]
    pub(crate) audits_heard: u64,
    /// When a record was last written for it.
    #[serde(skip)]
    pub(crate) audits_noted: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) evictions: u32,
    pub(crate) steps_repeated: u64,
    /// The newest generation whose repeated steps were counted, and how many: the most that a member says.
    pub(crate) repeated_in: (Generation, u64),
    pub(crate) longest_pause_ms: f64,
    /// Messages of generations that are over.
    pub(crate) stale_messages: u64,
    /// Deaths in a row without a step beyond the last.
    pub(crate) deaths_in_a_row: u32,
    /// When the last of them was counted.
    pub(crate) last_death: Option<Timestamp>,
    /// Times that workers held different states.
    #[serde(default)]
    pub(crate) rollbacks: u64,
    /// The same since the last agreement.
    #[serde(default)]
    pub(crate) rollbacks_in_a_row: u32,
    /// All that were ever made; numbers their records.
    pub(crate) decisions: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finish {
    pub(crate) step: u64,
    pub(crate) digest: String,
}

/// Why a job has fewer workers than it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shortage {
    /// There is something to be had, and its budget covers none of it.
    Budget,
    /// Its pools have too little free.
    NoCapacity {
        /// Workers that it lacks to start, or to be complete.
        lacking: u32,
        /// What its pools could give now.
        free: u32,
    },
    /// Its pools are too small for it, even if nobody else used them.
    TooSmall {
        /// The fewest workers that it starts with.
        min: u32,
        /// What its pools hold in all.
        capacity: u32,
    },
    /// A job that comes first waits for the same capacity.
    Behind {
        /// Which.
        job: JobId,
    },
    /// None of its pools is in its regions.
    OutsideRegions {
        /// Where it may run.
        regions: Vec<String>,
    },
    /// None of its pools can start workers for it, as they say; they are asked again later.
    Rejected {
        /// The newest that said so.
        pool: PoolName,
        /// In its words.
        reason: String,
    },
}

impl Submission {
    /// Most workers that can be of use.
    pub(crate) fn workers_max(&self) -> u32 {
        self.spec.resources.workers.max.min(self.spec.train.logical_shards).max(1)
    }

    pub(crate) fn workers_min(&self) -> u32 {
        self.spec.resources.workers.min.clamp(1, self.workers_max())
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = PoolName> {
        self.spec.resources.pools.iter().map(|name| PoolName(name.clone()))
    }

    /// By when it shall be done.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        Some(self.at.plus_ms(self.spec.policy.deadline_ms()?))
    }

    pub(crate) fn on_demand(&self) -> OnDemandSpec {
        self.spec.policy.on_demand
    }

    /// Higher ones come first, then earlier ones.
    pub(crate) fn rank(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.spec.policy.priority), self.order)
    }

    pub(crate) fn queue(&self) -> &str {
        self.spec.policy.queue.as_deref().unwrap_or_default()
    }

    /// Whether the place is in one of its regions. Own machines that are in no region are in all of them.
    pub(crate) fn may_be_in(&self, place: &Place) -> bool {
        let regions = &self.spec.resources.regions;
        regions.is_empty() || place.region.as_ref().is_none_or(|region| regions.contains(region))
    }

    pub(crate) fn exact(&self) -> bool {
        self.spec.train.numerics == NumericsSpec::Exact
    }

    pub(crate) fn by_speed(&self) -> bool {
        self.spec.resources.shards == ShardsSpec::BySpeed
    }

    /// The same job with a larger budget: it would give the same bits, and finds its checkpoints. How often its shards
    /// are computed twice may change.
    pub(crate) fn goes_on_as(&self, spec: &JobSpec) -> bool {
        let before = &self.spec;
        let train = TrainSpec { audit: spec.train.audit, ..before.train.clone() };
        let more = match (before.policy.budget_usd, spec.policy.budget_usd) {
            (Some(before), Some(now)) => now > before,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        let same = before.data.digest == spec.data.digest
            && before.data.held_out == spec.data.held_out
            && before.data.held_out_seed == spec.data.held_out_seed
            && before.model == spec.model
            && train == spec.train
            && before.checkpoint.root == spec.checkpoint.root;
        more && same
    }
}

impl Job {
    pub(crate) fn new(id: JobId) -> Self {
        Self {
            id,
            state: JobState::Queued,
            generation: Generation::default(),
            started: None,
            wish: None,
            doom: None,
            numerics: None,
            progress: JobProgress::default(),
            counters: Counters::default(),
            finishes: BTreeMap::new(),
            first_finish: None,
            refusals: BTreeMap::new(),
            shortage: None,
            checkpoints: Vec::new(),
            corruptions: Vec::new(),
            quarantines: BTreeMap::new(),
            save_failure: None,
            nccl_failures: Vec::new(),
            moved: None,
            pace: Pace::default(),
            stretch: None,
            hurried: false,
            rejected: Vec::new(),
        }
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        match &self.state {
            JobState::Running { group } | JobState::Stopping { group, .. } => Some(group),
            _ => None,
        }
    }

    pub(crate) fn group_mut(&mut self) -> Option<&mut Group> {
        match &mut self.state {
            JobState::Running { group } | JobState::Stopping { group, .. } => Some(group),
            _ => None,
        }
    }

    /// What keeps it from NCCL now.
    pub(crate) fn without_nccl(&self) -> Vec<NcclFailure> {
        let Some(group) = self.group() else { return Vec::new() };
        let is_member = |worker: &WorkerId| group.members.iter().any(|member| member.worker == *worker);
        self.nccl_failures.iter().filter(|failure| is_member(&failure.worker)).cloned().collect()
    }

    pub(crate) fn ended(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Succeeded { at } | JobState::Failed { at, .. } | JobState::Cancelled { at } => Some(at),
            _ => None,
        }
    }

    /// It has no group and wants one.
    pub(crate) fn groupless(&self) -> bool {
        matches!(
            self.state,
            JobState::Queued | JobState::Provisioning | JobState::Rendezvous { .. } | JobState::Recovering { .. }
        )
    }

    /// It ended because of its budget, and goes on from its newest checkpoint when it gets a larger one.
    pub(crate) fn out_of_budget(&self) -> bool {
        matches!((&self.state, &self.doom), (JobState::Failed { .. }, Some(Doom::Budget { .. })))
    }

    /// It buys nothing more from this pool: what that gave had other numerics, or wrong states, too often.
    pub(crate) fn given_up(&self, pool: &PoolName, settings: &Settings) -> bool {
        self.refusals.get(pool).is_some_and(|count| *count >= settings.refusal_limit) || self.distrusts(pool, settings)
    }

    /// What says that this place can't start workers for it. One that has trained asks again after a while: the fault
    /// may be put right, and its state is worth waiting.
    pub(crate) fn rejects(&self, spec: &PoolSpec, now: Timestamp, settings: &Settings) -> Option<&Rejected> {
        let stands = |rejected: &&Rejected| {
            let over = self.generation.0 > 0 && now >= rejected.at.plus_ms(settings.rejected_rest_ms);
            rejected.reach.covers(spec) && !over
        };
        self.rejected.iter().find(stands)
    }

    /// Too many workers of this pool held wrong states.
    pub(crate) fn distrusts(&self, pool: &PoolName, settings: &Settings) -> bool {
        self.quarantines.get(pool).is_some_and(|count| *count >= settings.quarantine_limit)
    }

    /// It wants instances: it is neither ended nor about to end, nor suspended.
    pub(crate) fn hungry(&self) -> bool {
        let stopping = matches!(&self.state, JobState::Stopping { purpose, .. } if *purpose != StopPurpose::Relocate);
        self.ended().is_none()
            && !stopping
            && !matches!(self.state, JobState::Suspended { .. })
            && self.wish.is_none()
            && self.doom.is_none()
            && self.finishes.is_empty()
    }
}
