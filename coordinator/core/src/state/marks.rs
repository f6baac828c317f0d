//! What planning must look at again. Choices about a job rest on the job, its workers and the time, and purchases on
//! the pools besides; so after an event only the jobs that it touched, or whose time has come, can give new ones.

use crate::ids::{JobId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What changed since planning last came to an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Jobs of which anything changed.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Those of them of which something changed that purchases rest on.
    pub(crate) buyers: BTreeSet<JobId>,
    /// A pool has more or less to give, or another price.
    pub(crate) pools: bool,
    /// Something can be had that could not be had before, or at another price.
    pub(crate) offers: bool,
    /// Evictions or starts were measured.
    pub(crate) figures: bool,
    /// Jobs that lack workers are due to be looked at, whatever changed.
    pub(crate) short_due: bool,
}

impl Marks {
    pub(crate) fn touch(&mut self, job: &JobId) {
        if !self.jobs.contains(job) {
            self.jobs.insert(job.clone());
        }
        if !self.buyers.contains(job) {
            self.buyers.insert(job.clone());
        }
    }

    /// A worker said how far it is, which changes nothing that is bought.
    pub(crate) fn touch_progress(&mut self, job: &JobId) {
        if !self.jobs.contains(job) {
            self.jobs.insert(job.clone());
        }
    }

    /// There is something to be had.
    pub(crate) fn touch_offers(&mut self) {
        self.pools = true;
        self.offers = true;
    }

    /// What deadlines are reckoned with has changed.
    pub(crate) fn market(&self) -> bool {
        self.pools || self.figures
    }

    /// Jobs that lack workers may have something to buy though nothing of themselves changed.
    pub(crate) fn all_short(&self) -> bool {
        self.offers || self.short_due
    }

    /// Something changed that purchases rest on.
    pub(crate) fn purchases(&self) -> bool {
        self.pools || self.short_due || !self.buyers.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && !self.purchases() && !self.market()
    }
}

/// When to look at a job again though nothing happened: one time for each job, perhaps too early, never too late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wakes {
    at: BTreeMap<JobId, Timestamp>,
    by_time: BTreeSet<(Timestamp, JobId)>,
}

impl Wakes {
    pub(crate) fn set(&mut self, job: &JobId, at: Option<Timestamp>) {
        if self.at.get(job).copied() == at {
            return;
        }
        if let Some(before) = self.at.remove(job) {
            self.by_time.remove(&(before, job.clone()));
        }
        if let Some(at) = at {
            self.at.insert(job.clone(), at);
            self.by_time.insert((at, job.clone()));
        }
    }

    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Jobs whose time has come.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<JobId> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, job)| job.clone()).collect()
    }
}
