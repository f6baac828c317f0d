//! All that the scheduler knows. Reading is open to the crate; every change of a state goes through
//! [`transitions`], which also notes what must be persisted.

mod donors;
mod group;
mod instance;
mod job;
mod pool;
mod speed;
pub(crate) mod transitions;
mod worker;

pub(crate) use group::{Breakage, Group, Origin};
pub(crate) use instance::{Instance, InstanceState};
pub use job::{Doom, Shortage, StopPurpose};
pub(crate) use job::{Finish, Job, JobState, Numerics, Submission, Wish};
pub(crate) use pool::{Backoff, Pool};
pub(crate) use speed::{Measure, Speed};
pub use worker::LossCause;
pub(crate) use worker::{Departure, Hello, Link, Standing, Worker};

use crate::decision::Decision;
use crate::event::DownCause;
use crate::ids::{InstanceId, JobId, PoolName, WorkerId};
use crate::settings::Settings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Jobs, instances, workers and pools, and what changed since the last records were taken.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    submissions: BTreeMap<JobId, Submission>,
    jobs: BTreeMap<JobId, Job>,
    instances: BTreeMap<InstanceId, Instance>,
    workers: BTreeMap<WorkerId, Worker>,
    pools: BTreeMap<PoolName, Pool>,
    decisions: BTreeMap<JobId, VecDeque<Decision>>,
    gone: VecDeque<Gone>,
    /// The number of the next instance and its worker.
    next_number: u64,
    /// After a restart: known from the records and not heard of yet.
    to_adopt: BTreeSet<WorkerId>,
    /// After a restart: pools that were not announced yet; nobody knows what they hold.
    unannounced: BTreeSet<PoolName>,
    /// What the providers run is known; nothing is bought before.
    reconciled: bool,
    /// The coordinator is to stop; nothing is started any more.
    suspending: bool,
    changes: Changes,
}

/// A worker whose instance is gone.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) worker: Worker,
    pub(crate) instance: Instance,
    pub(crate) cause: DownCause,
}

/// What must be persisted.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) submissions: BTreeSet<JobId>,
    pub(crate) jobs: BTreeSet<JobId>,
    pub(crate) instances: BTreeSet<InstanceId>,
    pub(crate) pools: BTreeSet<PoolName>,
    pub(crate) decisions: Vec<Decided>,
    pub(crate) next_number: bool,
}

/// A change in a job's list of decisions.
#[derive(Debug)]
pub(crate) enum Decided {
    Added { job: JobId, number: u64 },
    Dropped { job: JobId, number: u64 },
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, next_number: 1, reconciled: true, ..Self::default() }
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub(crate) fn job(&self, job: &JobId) -> Option<&Job> {
        self.jobs.get(job)
    }

    pub(crate) fn submission(&self, job: &JobId) -> Option<&Submission> {
        self.submissions.get(job)
    }

    /// In the order of their submission.
    pub(crate) fn queue(&self) -> Vec<(&Job, &Submission)> {
        let mut queue: Vec<_> =
            self.jobs.values().filter_map(|job| Some((job, self.submissions.get(&job.id)?))).collect();
        queue.sort_by_key(|(_, submission)| submission.order);
        queue
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    pub(crate) fn instance(&self, instance: &InstanceId) -> Option<&Instance> {
        self.instances.get(instance)
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub(crate) fn worker(&self, worker: &WorkerId) -> Option<&Worker> {
        self.workers.get(worker)
    }

    /// Of one job, in the order of their launch.
    pub(crate) fn team(&self, job: &JobId) -> Vec<&Worker> {
        let mut team: Vec<&Worker> = self.workers.values().filter(|worker| worker.job == *job).collect();
        team.sort_by_key(|worker| worker.number);
        team
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    pub(crate) fn pool(&self, pool: &PoolName) -> Option<&Pool> {
        self.pools.get(pool)
    }

    /// Instances in the pool that have not ended, on their way out or not.
    pub(crate) fn in_use(&self, pool: &PoolName) -> u32 {
        let used = self.instances.values().filter(|instance| instance.pool == *pool).count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    pub(crate) fn decisions(&self, job: &JobId) -> impl Iterator<Item = &Decision> {
        self.decisions.get(job).into_iter().flatten()
    }

    pub(crate) fn gone(&self) -> impl Iterator<Item = &Gone> {
        self.gone.iter()
    }

    pub(crate) fn announced(&self, pool: &PoolName) -> bool {
        !self.unannounced.contains(pool)
    }

    pub(crate) fn may_buy(&self) -> bool {
        self.reconciled && !self.suspending
    }

    pub(crate) fn suspending(&self) -> bool {
        self.suspending
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The job and its submission as they must exist for a worker or an instance that names it.
    pub(crate) fn job_of(&self, job: &JobId) -> (&Job, &Submission) {
        let known = self.jobs.get(job).zip(self.submissions.get(job));
        known.unwrap_or_else(|| panic!("job {job} has workers and is not known"))
    }
}
