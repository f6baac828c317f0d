//! All that the scheduler knows. Reading is open to the crate; every change of a state goes through
//! [`transitions`], which also notes what must be persisted.

mod donors;
mod group;
mod instance;
mod job;
mod marks;
mod pairs;
mod pool;
mod rest;
mod speed;
mod tally;
pub(crate) mod transitions;
mod worker;

pub(crate) use group::{Breakage, Group, Origin};
pub(crate) use instance::{Instance, InstanceState};
pub use job::{Doom, Shortage, StopPurpose};
pub(crate) use job::{Finish, Job, JobState, Numerics, Stretch, Submission, Wish};
pub(crate) use marks::{Marks, Wakes};
use pairs::Pairs;
pub(crate) use pool::Pool;
pub use rest::Reach;
pub(crate) use rest::{Rejected, Rest};
pub(crate) use speed::{Measure, Speed};
pub(crate) use tally::{Counted, Tally};
pub use worker::LossCause;
pub(crate) use worker::{Departure, Hello, Link, Standing, Suspicion, Worker};

use crate::decision::Decision;
use crate::event::{DownCause, PoolSpec};
use crate::ids::{InstanceId, JobId, PoolName, ProviderName, Timestamp, WorkerId};
use crate::ledger::Ledger;
use crate::settings::Settings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trainctl_jobs::JobSpec;

/// Jobs, instances, workers and pools, and what changed since the last records were taken.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    submissions: BTreeMap<JobId, Submission>,
    jobs: BTreeMap<JobId, Job>,
    pairs: Pairs,
    pools: BTreeMap<PoolName, Pool>,
    /// What is left alone because it had nothing to give.
    rests: BTreeMap<Reach, Rest>,
    /// The numbers of each job's workers, which are in the order of their launch.
    teams: BTreeMap<JobId, BTreeSet<u64>>,
    tally: Tally,
    /// Jobs by their place in the queue.
    order: BTreeMap<u64, JobId>,
    /// Jobs that lack workers.
    short: BTreeSet<JobId>,
    /// Jobs with workers that others would replace: they look at offers though they lack nothing.
    watchful: BTreeSet<JobId>,
    /// Jobs with a deadline that have not ended.
    dated: BTreeSet<JobId>,
    /// When these two are looked at, since the market has changed.
    review: Option<Timestamp>,
    /// When the jobs that lack workers are looked at, since something changed that gave nobody anything to buy.
    short_review: Option<Timestamp>,
    pub(crate) marks: Marks,
    pub(crate) wakes: Wakes,
    decisions: BTreeMap<JobId, VecDeque<Decision>>,
    gone: VecDeque<Gone>,
    ledger: Ledger,
    /// The number of the next instance and its worker.
    next_number: u64,
    /// After a restart: known from the records and not heard of yet.
    to_adopt: BTreeSet<WorkerId>,
    /// After a restart: pools that were not announced yet; nobody knows what they hold.
    unannounced: BTreeSet<PoolName>,
    /// With nothing on record there is nothing to find again; else a provider's pools are not bought from before it
    /// has said what it runs.
    blank: bool,
    /// Providers that have said so.
    listed: BTreeSet<ProviderName>,
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
    pub(crate) accounts: BTreeSet<JobId>,
    pub(crate) bills: BTreeSet<(JobId, InstanceId)>,
    pub(crate) shared_costs: bool,
}

/// A change in a job's list of decisions.
#[derive(Debug)]
pub(crate) enum Decided {
    Added { job: JobId, number: u64 },
    Dropped { job: JobId, number: u64 },
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, next_number: 1, blank: true, ..Self::default() }
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
        self.order.values().filter_map(|job| Some((self.jobs.get(job)?, self.submissions.get(job)?))).collect()
    }

    /// These of the jobs, in the order of their submission.
    fn in_order<'s>(&'s self, jobs: impl Iterator<Item = &'s JobId>) -> Vec<(&'s Job, &'s Submission)> {
        let mut these: Vec<_> =
            jobs.filter_map(|job| Some((self.jobs.get(job)?, self.submissions.get(job)?))).collect();
        these.sort_by_key(|(_, submission)| submission.order);
        these
    }

    /// Jobs of which anything changed since planning last came to an end.
    pub(crate) fn touched(&self) -> Vec<(&Job, &Submission)> {
        self.in_order(self.marks.jobs.iter())
    }

    /// Jobs of which something changed that purchases rest on.
    pub(crate) fn buyers(&self) -> Vec<(&Job, &Submission)> {
        self.in_order(self.marks.buyers.iter())
    }

    /// Jobs that may have something to buy or to give back; none: nothing changed that purchases rest on.
    pub(crate) fn all_buyers(&self) -> Vec<(&Job, &Submission)> {
        if !self.marks.purchases() {
            return Vec::new();
        }
        let mut buyers: BTreeSet<&JobId> = self.marks.buyers.union(&self.short).collect();
        if self.marks.offers {
            buyers.extend(&self.watchful);
        }
        self.in_order(buyers.into_iter())
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.pairs.instances()
    }

    pub(crate) fn instance(&self, instance: &InstanceId) -> Option<&Instance> {
        self.pairs.instance(instance)
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.pairs.workers()
    }

    pub(crate) fn worker(&self, worker: &WorkerId) -> Option<&Worker> {
        self.pairs.worker(worker)
    }

    /// Of one job, in the order of their launch.
    pub(crate) fn team(&self, job: &JobId) -> Vec<&Worker> {
        self.teams.get(job).into_iter().flatten().filter_map(|number| self.pairs.numbered(*number)).collect()
    }

    fn team_numbers(&self, job: &JobId) -> Vec<u64> {
        self.teams.get(job).into_iter().flatten().copied().collect()
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    pub(crate) fn pool(&self, pool: &PoolName) -> Option<&Pool> {
        self.pools.get(pool)
    }

    /// Instances in the pool that have not ended, on their way out or not.
    pub(crate) fn in_use(&self, pool: &PoolName) -> u32 {
        self.pools.get(pool).map_or(0, |pool| pool.in_use)
    }

    /// Where the job has workers that are neither lost nor on their way out.
    pub(crate) fn pools_of(&self, job: &JobId) -> impl Iterator<Item = &Pool> {
        self.tally.pools(job).filter_map(|pool| self.pools.get(pool))
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Until when it is left alone, and why: the longest of all that concerns it.
    pub(crate) fn resting(&self, spec: &PoolSpec, now: Timestamp) -> Option<Rest> {
        if self.rests.is_empty() {
            return None;
        }
        let rests = Reach::all(spec).into_iter().filter_map(|reach| self.rests.get(&reach).copied());
        rests.filter(|rest| now < rest.until).max_by_key(|rest| rest.until)
    }

    /// When deadlines are held against the market again.
    pub(crate) fn review(&self) -> Option<Timestamp> {
        self.review
    }

    /// When jobs that lack workers are looked at again.
    pub(crate) fn short_review(&self) -> Option<Timestamp> {
        self.short_review
    }

    pub(crate) fn rests(&self) -> impl Iterator<Item = &Rest> {
        self.rests.values()
    }

    /// The pool as it is configured and as jobs list it, of one of its places.
    pub(crate) fn configured(&self, place: &PoolName) -> PoolName {
        self.pools.get(place).map_or_else(|| place.clone(), |pool| pool.spec.of.clone())
    }

    pub(crate) fn decisions(&self, job: &JobId) -> impl Iterator<Item = &Decision> {
        self.decisions.get(job).into_iter().flatten()
    }

    /// Their numbers follow each other.
    pub(crate) fn decision(&self, job: &JobId, number: u64) -> Option<&Decision> {
        let list = self.decisions.get(job)?;
        list.get(usize::try_from(number.checked_sub(list.front()?.number)?).ok()?)
    }

    pub(crate) fn gone(&self) -> impl Iterator<Item = &Gone> {
        self.gone.iter()
    }

    /// The name is free, or its job ended because of its budget and goes on with a larger one.
    pub(crate) fn may_submit(&self, job: &JobId, spec: &JobSpec) -> bool {
        match self.jobs.get(job).zip(self.submissions.get(job)) {
            None => true,
            Some((entry, submission)) => entry.out_of_budget() && submission.goes_on_as(spec),
        }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn announced(&self, pool: &PoolName) -> bool {
        !self.unannounced.contains(pool)
    }

    pub(crate) fn may_buy(&self) -> bool {
        !self.suspending
    }

    /// What the pool's provider runs is known.
    pub(crate) fn listed(&self, pool: &PoolSpec) -> bool {
        self.blank || self.listed.contains(&pool.place.provider)
    }

    pub(crate) fn suspending(&self) -> bool {
        self.suspending
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Whether any worker ever had this name.
    pub(crate) fn ever_launched(&self, worker: &WorkerId) -> bool {
        pairs::worker_number(worker).is_some_and(|number| number < self.next_number)
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
