//! Changes of a job: from its submission through its groups to its end.

use crate::action::Member;
use crate::ids::{Generation, JobId, PoolName, Timestamp, WorkerId};
use crate::state::{
    Breakage, Doom, Group, Job, JobState, Numerics, Origin, Shortage, Standing, State, StopPurpose, Submission, Wish,
};
use trainctl_jobs::JobSpec;

/// A generation about to be handed out.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) members: Vec<Member>,
    pub(crate) immediate: bool,
    pub(crate) origin: Origin,
    pub(crate) reason: String,
}

impl State {
    pub(crate) fn submit(&mut self, now: Timestamp, job: &JobId, spec: JobSpec, manifest_json: String) {
        let order = self.enqueue(job);
        self.submissions.insert(job.clone(), Submission { order, at: now, spec, manifest_json });
        self.jobs.insert(job.clone(), Job::new(job.clone()));
        self.changes.submissions.insert(job.clone());
        self.changes.jobs.insert(job.clone());
        self.share_coordinator(now);
    }

    /// A job that its budget had ended goes on with this spec, behind those that wait.
    pub(crate) fn reopen(&mut self, now: Timestamp, job: &JobId, spec: JobSpec, manifest_json: String) {
        let order = self.enqueue(job);
        self.submissions.insert(job.clone(), Submission { order, at: now, spec, manifest_json });
        self.changes.submissions.insert(job.clone());
        let entry = self.job_mut(job);
        entry.doom = None;
        entry.counters.deaths_in_a_row = 0;
        entry.state = match entry.generation.0 {
            0 => JobState::Queued,
            _ => JobState::Recovering { first_attached: None, cause: "its budget had covered no more".to_owned() },
        };
        self.charge_storage(now, job);
        self.share_coordinator(now);
    }

    /// Its place is the last of the queue.
    fn enqueue(&mut self, job: &JobId) -> u64 {
        if let Some(before) = self.submissions.get(job) {
            self.order.remove(&before.order);
        }
        let order = self.order.last_key_value().map_or(1, |(last, _)| last + 1);
        self.order.insert(order, job.clone());
        self.marks.touch(job);
        order
    }

    pub(crate) fn wish(&mut self, job: &JobId, wish: Wish) {
        self.job_mut(job).wish = Some(wish);
    }

    /// Nothing is started any more until the state is loaded again.
    pub(crate) fn stop_buying_for_good(&mut self) {
        self.suspending = true;
    }

    pub(crate) fn doom(&mut self, job: &JobId, doom: Doom) {
        let job = self.job_mut(job);
        if job.ended().is_none() {
            job.doom.get_or_insert(doom);
        }
    }

    pub(crate) fn set_shortage(&mut self, job: &JobId, shortage: Option<Shortage>) {
        match shortage {
            Some(_) => self.short.insert(job.clone()),
            None => self.short.remove(job),
        };
        self.job_mut(job).shortage = shortage;
    }

    /// Shards go from slow members to fast ones now.
    pub(crate) fn moved_shards(&mut self, now: Timestamp, job: &JobId) {
        self.job_mut(job).moved = Some(now);
    }

    /// Whether what it lacks is bought on demand, since the deadline can't wait for spot.
    pub(crate) fn set_hurried(&mut self, job: &JobId, hurried: bool) {
        self.job_mut(job).hurried = hurried;
    }

    pub(crate) fn set_numerics(&mut self, job: &JobId, numerics: Option<Numerics>) {
        self.job_mut(job).numerics = numerics;
    }

    /// Counts a worker with other numerics; a worker that fits starts the count again.
    pub(crate) fn count_refusal(&mut self, job: &JobId, pool: &PoolName, refused: bool) -> u32 {
        let refusals = &mut self.job_mut(job).refusals;
        if !refused {
            refusals.remove(pool);
            return 0;
        }
        let count = refusals.entry(pool.clone()).or_insert(0);
        *count += 1;
        *count
    }

    pub(crate) fn clear_refusals(&mut self, job: &JobId) {
        self.job_mut(job).refusals.clear();
    }

    /// Queued, Provisioning and Rendezvous follow from the jobs' workers; Recovering keeps its name.
    pub(crate) fn settle_phases(&mut self, now: Timestamp) {
        let groupless = self.marks.jobs.iter().filter_map(|job| self.jobs.get(job)).filter(|job| job.groupless());
        let settled: Vec<(JobId, JobState)> = groupless.map(|job| (job.id.clone(), self.phase(now, job))).collect();
        for (job, phase) in settled {
            if self.jobs.get(&job).is_some_and(|job| job.state != phase) {
                self.job_mut(&job).state = phase;
            }
        }
    }

    fn phase(&self, now: Timestamp, job: &Job) -> JobState {
        let (mut launched, mut attached) = (false, false);
        for worker in self.team(&job.id).into_iter().filter(|worker| worker.counts()) {
            launched = true;
            attached |= worker.attached();
        }
        let since = match &job.state {
            JobState::Rendezvous { first_attached } => Some(*first_attached),
            JobState::Recovering { first_attached, .. } => *first_attached,
            _ => None,
        };
        let first_attached = attached.then_some(since.unwrap_or(now));
        match (&job.state, first_attached) {
            (JobState::Recovering { cause, .. }, first_attached) => {
                JobState::Recovering { first_attached, cause: cause.clone() }
            }
            (_, Some(first_attached)) => JobState::Rendezvous { first_attached },
            (_, None) if launched => JobState::Provisioning,
            (_, None) => JobState::Queued,
        }
    }

    /// Hands out the next generation. With no members everybody saves and leaves, and the job is Stopping for `stop`.
    pub(crate) fn assign(
        &mut self,
        now: Timestamp,
        job: &JobId,
        assignment: Assignment,
        stop: Option<StopPurpose>,
    ) -> Generation {
        let Assignment { members, immediate, origin, reason } = assignment;
        assert_eq!(members.is_empty(), stop.is_some(), "{job}: a generation with no members is one that stops");
        let entry = self.job_mut(job);
        entry.generation = Generation(entry.generation.0 + 1);
        let generation = entry.generation;
        let oldest_live = match entry.group() {
            Some(before) if !immediate && before.effective => before.generation,
            Some(before) if !immediate => before.oldest_live,
            _ => generation,
        };
        let (step_before, rollbacks) = (entry.progress.step_max, entry.counters.rollbacks);
        let follows = |worker: &WorkerId| {
            let worker = self.pairs.worker(worker);
            worker.is_some_and(|worker| matches!(worker.standing, Standing::Ready { donor: Some(_), .. }))
        };
        let followers =
            members.iter().map(|member| member.worker.clone()).filter(|id| !immediate && follows(id)).collect();
        let group = Group {
            generation,
            members,
            immediate,
            assigned: now,
            origin,
            rollbacks,
            effective: false,
            oldest_live,
            step_before,
            followers,
            reason,
            broken: None,
        };
        for number in self.team_numbers(job) {
            let Some(worker) = self.pairs.numbered_mut(number) else { continue };
            let standing = match (&worker.standing, group.has(&worker.id)) {
                (Standing::Lost { .. } | Standing::Done, true) => {
                    panic!("{}: a worker that is gone can't be in generation {generation}", worker.id)
                }
                (_, true) => Standing::Member,
                (Standing::Member, false) => Standing::Leaving { since: now },
                _ => continue,
            };
            worker.standing = standing;
            self.changes.instances.insert(worker.instance.clone());
        }
        self.job_mut(job).state = match stop {
            Some(purpose) => JobState::Stopping { group, purpose },
            None => JobState::Running { group },
        };
        self.charge_group(now, job);
        generation
    }

    /// The newest generation, or an older one that was still waited for, is known to train.
    pub(crate) fn took_effect(&mut self, job: &JobId, generation: Generation) {
        let Some(group) = self.job_mut(job).group_mut() else { return };
        group.oldest_live = group.oldest_live.max(generation);
        group.effective |= group.generation == generation;
    }

    /// The group needs to be replaced at once.
    pub(crate) fn break_group(&mut self, job: &JobId, worker: &WorkerId, why: String) {
        if let Some(group) = self.job_mut(job).group_mut() {
            group.broken.get_or_insert(Breakage { worker: worker.clone(), why });
        }
    }

    /// A worker has heard of a generation that is in no record: the next one must be above it.
    pub(crate) fn raise_generation(&mut self, job: &JobId, generation: Generation) {
        let job = self.job_mut(job);
        job.generation = job.generation.max(generation);
    }

    /// Nobody who holds the state is left: what is left of the team waits for a new group.
    pub(crate) fn recover(&mut self, job: &JobId, cause: String) {
        for number in self.team_numbers(job) {
            let Some(worker) = self.pairs.numbered_mut(number) else { continue };
            if matches!(worker.standing, Standing::Joining { .. }) {
                worker.standing = Standing::Waiting;
                self.changes.instances.insert(worker.instance.clone());
            }
        }
        self.job_mut(job).state = JobState::Recovering { first_attached: None, cause };
    }

    /// Ended, or suspended: what is left of the team is dismissed by the next planning.
    pub(crate) fn end(&mut self, job: &JobId, end: JobState) {
        // What was kept for it can be had again.
        if self.short.remove(job) {
            self.marks.touch_offers();
        }
        let job = self.job_mut(job);
        assert!(job.ended().is_none(), "{}: a job ends once", job.id);
        job.state = end;
        job.shortage = None;
        job.progress.samples_per_s = 0.0;
    }
}
