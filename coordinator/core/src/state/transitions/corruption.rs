//! What changes when workers held different states, could not save theirs, or can't use NCCL.

use crate::corruption::{Corruption, Differing, NcclFailure, SaveFailure};
use crate::ids::{JobId, PoolName, Timestamp, WorkerId};
use crate::state::{Standing, State};

impl State {
    /// No state that a worker of the job holds counts any more. How many times in a row this happened, with nothing
    /// agreed in between.
    pub(crate) fn roll_back(
        &mut self,
        now: Timestamp,
        job: &JobId,
        differing: Differing,
        quarantined: Vec<WorkerId>,
    ) -> u32 {
        for number in self.team_numbers(job) {
            let Some(worker) = self.pairs.numbered_mut(number) else { continue };
            if matches!(worker.standing, Standing::Joining { .. } | Standing::Ready { .. }) {
                worker.standing = Standing::Waiting;
                self.changes.instances.insert(worker.instance.clone());
            }
        }
        let max = self.settings.corruptions_max;
        let job = self.job_mut(job);
        job.finishes.clear();
        job.first_finish = None;
        job.progress.state_digest = None;
        job.counters.rollbacks += 1;
        job.counters.rollbacks_in_a_row += 1;
        // What was disputed before is settled by this one's repetition, if at all.
        job.corruptions.iter_mut().for_each(|corruption| corruption.open = false);
        let (number, open) = (job.counters.rollbacks, quarantined.is_empty());
        job.corruptions.push(Corruption { number, at: now, differing, quarantined, open, back_to: None });
        let surplus = job.corruptions.len().saturating_sub(max);
        job.corruptions.drain(..surplus);
        job.counters.rollbacks_in_a_row
    }

    /// A repetition told who was wrong, or that it can't.
    pub(crate) fn settle(&mut self, job: &JobId, quarantined: Vec<WorkerId>) {
        if let Some(corruption) = self.job_mut(job).corruptions.last_mut() {
            corruption.open = false;
            corruption.quarantined = quarantined;
        }
    }

    /// The job went on from this step.
    pub(crate) fn went_back_to(&mut self, job: &JobId, step: u64) {
        let unknown = self.jobs.get(job).and_then(|job| job.corruptions.last()).is_some_and(|c| c.back_to.is_none());
        if unknown && let Some(corruption) = self.job_mut(job).corruptions.last_mut() {
            corruption.back_to = Some(step);
        }
    }

    /// How many workers of this pool the job has put into quarantine, with this one.
    pub(crate) fn count_quarantine(&mut self, job: &JobId, pool: &PoolName) -> u32 {
        let count = self.job_mut(job).quarantines.entry(pool.clone()).or_insert(0);
        *count += 1;
        *count
    }

    pub(crate) fn save_failed(&mut self, job: &JobId, failure: SaveFailure) {
        self.job_mut(job).save_failure = Some(failure);
    }

    /// In place of what that worker said before; of those that are no members any more nothing is kept.
    pub(crate) fn nccl_failed(&mut self, job: &JobId, failure: NcclFailure) {
        let job = self.job_mut(job);
        job.nccl_failures = job.without_nccl();
        job.nccl_failures.retain(|other| other.worker != failure.worker);
        job.nccl_failures.push(failure);
    }

    /// A checkpoint is an agreement, and shows that saving works.
    pub(super) fn agreed(&mut self, job: &JobId, step: u64) {
        let job = self.job_mut(job);
        if job.corruptions.last().is_none_or(|corruption| step >= corruption.differing.step) {
            job.counters.rollbacks_in_a_row = 0;
        }
        if job.save_failure.as_ref().is_some_and(|failure| step >= failure.step) {
            job.save_failure = None;
        }
    }
}
