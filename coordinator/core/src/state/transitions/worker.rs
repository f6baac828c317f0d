//! Changes of a worker's link and standing.

use crate::event::{Progress, ShardTime};
use crate::ids::{Generation, JobId, Timestamp, WorkerId};
use crate::state::{Departure, Hello, Job, Link, LossCause, Standing, State, Suspicion, Worker};

impl State {
    pub(crate) fn attach(&mut self, now: Timestamp, worker: &WorkerId, hello: Hello) {
        let entry = self.worker_mut(worker);
        entry.link = Link::Attached { heard: now };
        entry.hello = Some(hello);
        entry.suspicion = None;
    }

    /// Whether it is one that the records named and that is heard of for the first time since.
    pub(crate) fn adopt(&mut self, worker: &WorkerId) -> bool {
        self.to_adopt.remove(worker)
    }

    pub(crate) fn detach(&mut self, now: Timestamp, worker: &WorkerId) {
        let entry = self.worker_mut(worker);
        if entry.attached() {
            entry.link = Link::Detached { since: now };
        }
    }

    /// It is alive. Not persisted: it says so again soon.
    pub(crate) fn heard(&mut self, now: Timestamp, worker: &WorkerId, progress: Progress) {
        if let Some(entry) = self.pairs.worker_mut(worker) {
            self.marks.touch_progress(&entry.job);
            if entry.attached() {
                entry.link = Link::Attached { heard: now };
            }
            entry.progress = Some(progress);
        }
    }

    /// A member says what a logical shard takes it. Not persisted either.
    pub(crate) fn timed(&mut self, now: Timestamp, worker: &WorkerId, generation: Generation, said: ShardTime) {
        if let Some(entry) = self.pairs.worker_mut(worker) {
            entry.speed.report(now, generation, said);
        }
    }

    /// Every worker's silence is counted from now. Not persisted: so it is after a restart.
    pub(crate) fn listen_anew(&mut self, now: Timestamp) {
        self.touch_all();
        for worker in self.pairs.workers_mut() {
            match &mut worker.link {
                Link::Never { since } | Link::Attached { heard: since } | Link::Detached { since } => *since = now,
            }
        }
    }

    pub(crate) fn stand(&mut self, worker: &WorkerId, standing: Standing) {
        self.worker_mut(worker).standing = standing;
    }

    pub(crate) fn depart(&mut self, worker: &WorkerId, departure: Departure) {
        self.worker_mut(worker).departure = Some(departure);
    }

    /// Its provider sees that it may take it before long.
    pub(crate) fn risk(&mut self, worker: &WorkerId) {
        self.worker_mut(worker).at_risk = true;
    }

    pub(crate) fn suspect(&mut self, worker: &WorkerId, suspicion: Suspicion) {
        if let Some(entry) = self.pairs.worker_mut(worker) {
            entry.suspicion = Some(suspicion);
        }
    }

    /// Its stream broke, and not because this process is new.
    pub(crate) fn cut_off(&self, worker: &Worker) -> bool {
        matches!(worker.link, Link::Detached { .. }) && !self.to_adopt.contains(&worker.id)
    }

    pub(crate) fn note_failure(&mut self, worker: &WorkerId, reason: String) {
        self.worker_mut(worker).failure = Some(reason);
    }

    pub(crate) fn note_last_lines(&mut self, worker: &WorkerId, lines: String) {
        self.worker_mut(worker).last_lines = Some(lines);
    }

    /// Treats it as dead: its group breaks if it needs it, its instance is taken by the next planning.
    pub(crate) fn lose(&mut self, worker: &WorkerId, cause: LossCause) {
        let entry = self.worker_mut(worker);
        if matches!(entry.standing, Standing::Lost { .. } | Standing::Done) {
            return;
        }
        let why = cause.words(worker);
        let before = std::mem::replace(&mut entry.standing, Standing::Lost { cause });
        let job = entry.job.clone();
        self.break_if_needed(&job, worker, &before, why);
    }

    pub(super) fn break_if_needed(&mut self, job: &JobId, worker: &WorkerId, before: &Standing, why: String) {
        if self.needs(job, before) {
            self.break_group(job, worker, why);
        }
    }

    /// Whether the job's group can't go on without one that stands so. A member is always needed. One that leaves is
    /// needed until the generation without it took effect; an immediate generation does not wait for it.
    pub(crate) fn needs(&self, job: &JobId, standing: &Standing) -> bool {
        match (standing, self.jobs.get(job).and_then(Job::group)) {
            (Standing::Member, Some(_)) => true,
            (Standing::Leaving { .. }, Some(group)) => !group.effective && !group.immediate,
            _ => false,
        }
    }
}
