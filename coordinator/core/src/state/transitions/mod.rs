//! Every change of a state, each a function that starts from what holds and leaves what must hold. Nothing here
//! chooses: `observe` calls them for facts, `apply` for what was planned. Each notes what must be persisted.

mod corruption;
mod costs;
mod instance;
mod job;
mod load;
mod pool;
mod progress;
mod worker;

pub(crate) use job::Assignment;
pub(crate) use load::Loaded;

use crate::decision::{Decision, Reason};
use crate::ids::{InstanceId, JobId, Timestamp, WorkerId};
use crate::state::{Counted, Decided, Instance, Job, State, Worker};
use std::collections::BTreeMap;

impl State {
    /// For a change that must outlive the coordinator.
    fn job_mut(&mut self, job: &JobId) -> &mut Job {
        self.changes.jobs.insert(job.clone());
        self.marks.touch(job);
        let job = self.jobs.get_mut(job).unwrap_or_else(|| panic!("job {job} is not known"));
        job.progress.audits_passed = job.progress.audits_passed.max(job.progress.audits_heard);
        job
    }

    fn worker_mut(&mut self, worker: &WorkerId) -> &mut Worker {
        let worker = self.pairs.worker_mut(worker).unwrap_or_else(|| panic!("worker {worker} is not known"));
        self.changes.instances.insert(worker.instance.clone());
        self.marks.touch(&worker.job);
        worker
    }

    fn instance_mut(&mut self, instance: &InstanceId) -> &mut Instance {
        let entry = self.pairs.instance_mut(instance).unwrap_or_else(|| panic!("instance {instance} is not known"));
        self.changes.instances.insert(instance.clone());
        self.marks.touch(&entry.job);
        entry
    }

    /// Jobs of which anything changed are counted anew.
    pub(crate) fn settle_tally(&mut self) {
        for job in &self.marks.buyers {
            let counted = self.count(job);
            let Some(before) = self.tally.set(job, &counted) else { continue };
            for (name, workers) in before.pools {
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.staying = pool.staying.saturating_sub(workers);
                }
            }
            for (name, workers) in counted.pools {
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.staying += workers;
                }
            }
        }
    }

    /// The job's workers that are neither lost nor on their way out.
    pub(crate) fn count(&self, job: &JobId) -> Counted {
        let queue = self.submissions.get(job).map_or_else(String::new, |submission| submission.queue().to_owned());
        let mut pools = BTreeMap::new();
        for worker in self.team(job).into_iter().filter(|worker| worker.counts()) {
            if let Some(instance) = self.pairs.instance(&worker.instance) {
                match pools.get_mut(&instance.pool) {
                    Some(workers) => *workers += 1,
                    None => {
                        pools.insert(instance.pool.clone(), 1);
                    }
                }
            }
        }
        Counted { queue, pools }
    }

    /// Adds a decision to the job's list, and drops the oldest beyond the bound.
    pub(crate) fn decide(&mut self, now: Timestamp, job: &JobId, reason: Reason) {
        let max = self.settings.decisions_max;
        let entry = self.job_mut(job);
        entry.counters.decisions += 1;
        let number = entry.counters.decisions;
        let decision =
            Decision { number, at: now, generation: entry.generation, step: entry.progress.step_max, reason };
        let list = self.decisions.entry(job.clone()).or_default();
        list.push_back(decision);
        self.changes.decisions.push(Decided::Added { job: job.clone(), number });
        while list.len() > max {
            if let Some(dropped) = list.pop_front() {
                self.changes.decisions.push(Decided::Dropped { job: job.clone(), number: dropped.number });
            }
        }
    }
}
