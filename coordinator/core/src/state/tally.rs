//! How many workers count, by queue: kept, since planning asks for it for job after job.

use crate::ids::{JobId, PoolName};
use std::collections::BTreeMap;

/// As it was when jobs were last counted.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Tally {
    jobs: BTreeMap<JobId, Counted>,
    queues: BTreeMap<String, u32>,
}

/// Workers of one job that are neither lost nor on their way out.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) queue: String,
    pub(crate) pools: BTreeMap<PoolName, u32>,
}

impl Counted {
    fn all(&self) -> u32 {
        self.pools.values().sum()
    }
}

impl Tally {
    pub(crate) fn queue(&self, queue: &str) -> u32 {
        self.queues.get(queue).copied().unwrap_or(0)
    }

    /// Where the job has workers that count.
    pub(crate) fn pools(&self, job: &JobId) -> impl Iterator<Item = &PoolName> {
        self.jobs.get(job).into_iter().flat_map(|counted| counted.pools.keys())
    }

    /// The job was counted anew. What it was before, if that was something else.
    pub(super) fn set(&mut self, job: &JobId, counted: &Counted) -> Option<Counted> {
        let known = self.jobs.get(job);
        if known.map_or(counted.pools.is_empty(), |known| known == counted) {
            return None;
        }
        let before = self.jobs.insert(job.clone(), counted.clone()).unwrap_or_default();
        if let Some(used) = self.queues.get_mut(&before.queue) {
            *used = used.saturating_sub(before.all());
        }
        *self.queues.entry(counted.queue.clone()).or_insert(0) += counted.all();
        Some(before)
    }
}
