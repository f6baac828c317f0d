//! Changes of what is known of a job's progress, and its counters.

use crate::event::{Checkpoint, Evaluation, Progress};
use crate::ids::{Generation, JobId, Timestamp, WorkerId};
use crate::state::{Doom, Finish, Instance, Pool, State, Stretch};

impl State {
    /// Takes over what a worker says of the group's progress. A step beyond the last ends a row of deaths.
    pub(crate) fn progress(&mut self, now: Timestamp, job: &JobId, progress: &Progress) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        if let Some(loss) = progress.loss.filter(|loss| loss.is_finite()) {
            entry.progress.loss = Some(loss);
        }
        if progress.samples_per_s.is_finite() {
            entry.progress.samples_per_s = progress.samples_per_s;
        }
        if let Some((digest, step)) = &progress.state_digest {
            let newer = entry.progress.state_digest.as_ref().is_none_or(|(_, known)| step >= known);
            if newer {
                entry.progress.state_digest = Some((digest.clone(), *step));
            }
        }
        entry.progress.skipped_steps = entry.progress.skipped_steps.max(progress.skipped_steps);
        if let Some(step) = progress.step {
            self.reached(now, job, step);
        }
    }

    /// So many audits of the job have passed, as a worker says. What is shown is what the records hold, so it never
    /// falls; they are rewritten for it once in a while, not with every heartbeat.
    pub(crate) fn audits_passed(&mut self, now: Timestamp, job: &JobId, said: u64) {
        let rest_ms = self.settings.audits_rest_ms;
        let Some(entry) = self.jobs.get_mut(job) else { return };
        let ended = entry.ended().is_some();
        let progress = &mut entry.progress;
        progress.audits_heard = progress.audits_heard.max(said);
        let due = progress.audits_noted.is_none_or(|noted| now >= noted.plus_ms(rest_ms));
        if progress.audits_heard > progress.audits_passed && (due || ended) {
            progress.audits_noted = Some(now);
            self.job_mut(job);
        }
    }

    /// How fast so many workers are: what they say until it was measured, then the steps of a while. Only a deadline
    /// needs it. Not persisted by itself, but with the job's next change.
    pub(crate) fn measure_pace(&mut self, now: Timestamp, job: &JobId, said: &Progress) {
        let Some((entry, submission)) = self.jobs.get_mut(job).zip(self.submissions.get(job)) else { return };
        let (Some(group), Some(step)) = (entry.group(), said.step) else { return };
        let measurable = submission.spec.policy.deadline.is_some() && group.effective;
        if !measurable || group.generation != said.generation {
            return;
        }
        let workers = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
        let newest = Stretch { generation: said.generation, from: now, step };
        let mut learned = !entry.pace.measured(workers);
        if learned {
            entry.pace.learn(workers, said.samples_per_s / f64::from(submission.spec.train.global_batch));
        }
        match entry.stretch.filter(|stretch| stretch.generation == said.generation && stretch.step <= step) {
            None => entry.stretch = Some(newest),
            Some(stretch) => {
                let (elapsed_ms, steps) = (now.since_ms(stretch.from), step - stretch.step);
                // So many that whole steps are told apart to a twentieth, or what a long time has brought.
                let window_ms = self.settings.pace_window_ms;
                let enough = steps >= 20 || (steps > 0 && elapsed_ms >= window_ms.saturating_mul(10));
                if elapsed_ms >= window_ms && enough {
                    entry.pace.learn(workers, steps as f64 * 1e3 / elapsed_ms as f64);
                    entry.stretch = Some(newest);
                    learned = true;
                }
            }
        }
        let hurried = entry.hurried;
        // What it buys rests on its pace, and while it has workers on demand on how far it is.
        if learned || hurried || self.pools_of(job).any(Pool::secure) {
            self.marks.touch(job);
        }
    }

    /// So many updates are applied.
    pub(crate) fn reached(&mut self, now: Timestamp, job: &JobId, step: u64) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.progress.step = entry.progress.step.max(step);
        if step <= entry.progress.step_max {
            return;
        }
        entry.progress.step_max = step;
        let first = entry.started.is_none();
        if first || entry.counters.deaths_in_a_row > 0 {
            let entry = self.job_mut(job);
            entry.started.get_or_insert(now);
            entry.counters.deaths_in_a_row = 0;
            entry.counters.last_death = None;
        }
    }

    /// The group goes on from here, perhaps behind where it was.
    pub(crate) fn fell_back_to(&mut self, job: &JobId, step: u64) {
        self.job_mut(job).progress.step = step;
    }

    /// Counts what a change of generation cost: the most that any member says.
    pub(crate) fn count_change(&mut self, job: &JobId, generation: Generation, pause_ms: f64, repeated: u64) {
        let counters = &mut self.job_mut(job).counters;
        counters.longest_pause_ms = counters.longest_pause_ms.max(pause_ms);
        let (newest, counted) = counters.repeated_in;
        if generation > newest {
            counters.steps_repeated += repeated;
            counters.repeated_in = (generation, repeated);
        } else if generation == newest && repeated > counted {
            counters.steps_repeated += repeated - counted;
            counters.repeated_in = (generation, repeated);
        }
    }

    pub(crate) fn evaluated(&mut self, job: &JobId, evaluation: Evaluation) {
        let known = &mut self.job_mut(job).progress.evaluation;
        if known.as_ref().is_none_or(|known| evaluation.step >= known.step) {
            *known = Some(evaluation);
        }
    }

    pub(crate) fn checkpoint(&mut self, job: &JobId, checkpoint: Checkpoint) {
        let max = self.settings.checkpoints_max;
        self.agreed(job, checkpoint.step);
        let list = &mut self.job_mut(job).checkpoints;
        list.retain(|known| known.step != checkpoint.step);
        list.push(checkpoint);
        list.sort_by_key(|checkpoint| checkpoint.step);
        let surplus = list.len().saturating_sub(max);
        list.drain(..surplus);
    }

    pub(crate) fn finished(&mut self, now: Timestamp, job: &JobId, worker: &WorkerId, finish: Finish) {
        let job = self.job_mut(job);
        job.progress.state_digest = Some((finish.digest.clone(), finish.step));
        job.finishes.insert(worker.clone(), finish);
        job.first_finish.get_or_insert(now);
    }

    pub(crate) fn count_stale(&mut self, job: &JobId) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.counters.stale_messages += 1;
        }
    }

    /// An instance of the job was taken by its pool or killed from outside.
    pub(crate) fn count_eviction(&mut self, job: &JobId) {
        self.job_mut(job).counters.evictions += 1;
        self.charge_eviction(job);
    }

    /// An instance died by itself; too many in a row doom the job. Those that were at work together when one died
    /// count once: a blow to all of them is one.
    pub(crate) fn count_death(&mut self, now: Timestamp, instance: &Instance, last: String) {
        let limit = self.settings.crash_limit;
        let counters = &mut self.job_mut(&instance.job).counters;
        if counters.last_death.is_some_and(|death| instance.launched < death) {
            return;
        }
        counters.last_death = Some(now);
        counters.deaths_in_a_row += 1;
        let deaths = counters.deaths_in_a_row;
        if deaths >= limit {
            self.doom(&instance.job, Doom::CrashLoop { deaths, last });
        }
    }
}
