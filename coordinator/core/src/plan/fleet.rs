//! A job's workers as purchases see them: how many it has, on which terms, and what its deadline leaves.

use crate::event::Market;
use crate::ids::{PoolName, Timestamp};
use crate::policy::Outlook;
use crate::state::{Group, Job, JobState, Origin, Pool, Standing, State, Submission, Worker};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use trainctl_jobs::OnDemandSpec;

/// One job and its workers.
pub(super) struct Fleet<'s> {
    pub(super) state: &'s State,
    pub(super) now: Timestamp,
    pub(super) job: &'s Job,
    pub(super) submission: &'s Submission,
    pub(super) team: Vec<&'s Worker>,
    outlook: OnceCell<Option<Outlook>>,
    /// What a shard takes its workers of each configured pool, where that is known.
    seconds: OnceCell<Vec<(Option<&'s PoolName>, f64)>>,
}

impl<'s> Fleet<'s> {
    pub(super) fn new(state: &'s State, now: Timestamp, (job, submission): (&'s Job, &'s Submission)) -> Self {
        Self {
            state,
            now,
            job,
            submission,
            team: state.team(&job.id),
            outlook: OnceCell::new(),
            seconds: OnceCell::new(),
        }
    }

    /// Neither lost nor on their way out.
    pub(super) fn counted(&self) -> impl Iterator<Item = &'s Worker> {
        self.team.iter().copied().filter(|worker| worker.counts())
    }

    pub(super) fn pool(&self, worker: &Worker) -> Option<&'s Pool> {
        self.state.pool(&self.state.instance(&worker.instance)?.pool)
    }

    pub(super) fn market(&self, worker: &Worker) -> Option<Market> {
        self.pool(worker).map(|pool| pool.spec.market)
    }

    /// The worker that this one is to replace, as long as that one counts.
    pub(super) fn replaces(&self, worker: &Worker) -> Option<&'s Worker> {
        let old = worker.replaces.as_ref()?;
        self.counted().find(|one| one.id == *old)
    }

    /// The worker that is to replace this one.
    pub(super) fn replacement(&self, old: &Worker) -> Option<&'s Worker> {
        self.counted().find(|worker| worker.replaces.as_ref() == Some(&old.id))
    }

    /// Workers of whom none is to replace another one.
    pub(super) fn have(&self) -> u32 {
        let own = self.counted().filter(|worker| worker.replaces.is_none() || self.replaces(worker).is_none());
        size(own.count())
    }

    /// Only what nobody takes away can meet the deadline.
    pub(super) fn pressed(&self) -> bool {
        self.hurried() && self.outlook().is_some_and(|outlook| outlook.pressed())
    }

    /// The deadline can't wait for spot, and on demand may be bought for it.
    pub(super) fn hurried(&self) -> bool {
        self.job.hurried && self.submission.on_demand() != OnDemandSpec::Never
    }

    /// `None`: it has no deadline, or nothing that is not taken away could meet it.
    pub(super) fn outlook(&self) -> Option<Outlook> {
        *self.outlook.get_or_init(|| self.reckoned())
    }

    fn reckoned(&self) -> Option<Outlook> {
        let deadline = self.submission.deadline()?;
        if self.submission.on_demand() == OnDemandSpec::Never {
            return None;
        }
        let settings = &self.state.settings;
        let (secure_pools, spot_pools): (Vec<&Pool>, Vec<&Pool>) = self.pools().partition(|pool| pool.secure());
        let places = secure_pools.iter().map(|pool| pool.spec.capacity).fold(0, u32::saturating_add);
        let workers = places.min(self.submission.workers_max());
        if workers == 0 {
            return None;
        }
        let pace = self.job.pace.at_least(workers);
        let ms = |steps: u64, margin: f64| pace.map(|pace| (steps as f64 / pace * 1e3 * (1.0 + margin)).ceil() as u64);
        let saved = self.job.checkpoints.last().map_or(0, |newest| newest.step);
        let held = self.held_step().unwrap_or(saved);
        let steps_left = self.submission.spec.train.steps.unwrap_or_default().saturating_sub(held);
        let save_ms = self.job.checkpoints.last().map_or(0, |newest| (newest.seconds.max(0.0) * 2e3) as u64);
        let left_ms = deadline.0.saturating_sub(self.now.0);
        let mut slowest: BTreeMap<&PoolName, Option<u64>> = BTreeMap::new();
        let mut starts = |pool: &&'s Pool| {
            let of = &pool.spec.of;
            self.start_of(pool, || *slowest.entry(of).or_insert_with(|| self.slowest_start_ms(of)))
        };
        let start_ms = secure_pools.iter().map(&mut starts).max().unwrap_or(settings.start_ms);
        let waits_ms = deadline.since_ms(self.submission.at) as f64 * settings.unmeasured_share;
        Some(Outlook {
            left_ms,
            work_ms: ms(steps_left, settings.pace_margin),
            workers,
            secure: self.secure_members().min(workers),
            one_share: self.one_share(workers),
            start_ms,
            changeover_ms: settings.changeover_ms.saturating_add(save_ms),
            unsaved_ms: ms(self.unsaved_steps(held), 0.0).unwrap_or(0),
            evictions_ms: Outlook::evictions_ms(left_ms, self.evictions_per_hour(&spot_pools), start_ms),
            unmeasured_ms: self.submission.at.plus_ms(waits_ms as u64).0.saturating_sub(self.now.0),
        })
    }

    /// A step takes as long as the largest number of shards that one worker has.
    fn one_share(&self, workers: u32) -> f64 {
        let largest = |workers: u32| f64::from(self.submission.spec.train.logical_shards.div_ceil(workers));
        if workers > 1 { 1.0 - largest(workers) / largest(workers - 1) } else { 1.0 }
    }

    /// Steps that are lost when all workers are gone at once: since the newest checkpoint, or until the next.
    fn unsaved_steps(&self, held: u64) -> u64 {
        let checkpoints = &self.job.checkpoints;
        let newest = checkpoints.last().map_or(0, |newest| newest.step);
        let before = checkpoints.iter().rev().nth(1).map_or(0, |before| before.step);
        held.saturating_sub(newest).max(newest.saturating_sub(before))
    }

    /// Of one spot instance, in the middle of the job's places.
    fn evictions_per_hour(&self, spot: &[&Pool]) -> f64 {
        let rate = |pool: &&Pool| pool.evictions_per_hour(self.now, &self.state.settings);
        let mut rates: Vec<f64> = spot.iter().map(rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    }

    /// Places of the job's pools that it may use.
    fn pools(&self) -> impl Iterator<Item = &'s Pool> {
        let settings = &self.state.settings;
        let names = &self.submission.spec.resources.pools;
        let listed = move |pool: &Pool| names.iter().any(|name| *name == pool.spec.of.0 || *name == pool.spec.name.0);
        let usable = move |pool: &Pool| {
            self.submission.may_be_in(&pool.spec.place)
                && !self.job.given_up(&pool.spec.of, settings)
                && self.job.rejects(&pool.spec, self.now, settings).is_none()
        };
        self.state.pools().filter(move |pool| listed(pool) && usable(pool))
    }

    /// From a launch until the worker trains. What was measured ends when it attaches, and the next may be slower. An
    /// offer that was never taken starts as the slowest of its configured pool: they boot the same image.
    pub(super) fn start_ms(&self, pool: &Pool) -> u64 {
        self.start_of(pool, || self.slowest_start_ms(&pool.spec.of))
    }

    fn start_of(&self, pool: &Pool, slowest: impl FnOnce() -> Option<u64>) -> u64 {
        let measured = pool.start_ms.or_else(slowest);
        measured.map_or(self.state.settings.start_ms, |ms| ms.saturating_mul(2))
    }

    /// Of all offers of a configured pool.
    fn slowest_start_ms(&self, of: &PoolName) -> Option<u64> {
        self.state.pools().filter(|pool| pool.spec.of == *of).filter_map(|pool| pool.start_ms).max()
    }

    fn secure_members(&self) -> u32 {
        let secure =
            |worker: &&Worker| worker.standing == Standing::Member && self.pool(worker).is_some_and(Pool::secure);
        if !self.state.pools_of(&self.job.id).any(Pool::secure) {
            return 0;
        }
        size(self.counted().filter(secure).count())
    }

    /// Updates that some worker holds; `None`: nobody does, the newest checkpoint counts.
    fn held_step(&self) -> Option<u64> {
        let holds = |group: &Group| group.effective || group.origin == Origin::Change;
        match &self.job.state {
            JobState::Running { group } if holds(group) => Some(self.job.progress.step),
            JobState::Stopping { .. } => Some(self.job.progress.step),
            _ => None,
        }
    }

    /// How fast the job's workers from this configured pool are, against the job's usual one; 1 where it has none.
    pub(super) fn speed(&self, pool: &Pool) -> f64 {
        let known = self.seconds.get_or_init(|| {
            let known_ms = self.state.settings.speed_known_ms;
            let known = |worker: &&'s Worker| Some((*worker, worker.speed.known(self.now, known_ms)?));
            let of = |(worker, seconds): (&'s Worker, f64)| (self.pool(worker).map(|pool| &pool.spec.of), seconds);
            self.team.iter().filter_map(known).map(of).collect()
        });
        let median = |mut seconds: Vec<f64>| {
            seconds.sort_by(f64::total_cmp);
            seconds.get(seconds.len().saturating_sub(1) / 2).copied()
        };
        let here = known.iter().filter(|(of, _)| *of == Some(&pool.spec.of));
        let here = median(here.map(|(_, seconds)| *seconds).collect());
        let usual = median(known.iter().map(|(_, seconds)| *seconds).collect());
        match (usual, here) {
            (Some(usual), Some(here)) if here > 0.0 => usual / here,
            _ => 1.0,
        }
    }
}

pub(super) fn size(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// When the job's deadline changes what it buys if nothing else happens before; perhaps too early.
pub(super) fn hurries_at(state: &State, now: Timestamp, entry: (&Job, &Submission)) -> Option<Timestamp> {
    entry.1.deadline()?;
    let fleet = Fleet::new(state, now, entry);
    let outlook = fleet.outlook()?;
    // One that hurries already is looked at again when there is no slack at all.
    let left_ms = if fleet.job.hurried { outlook.slack_ms() } else { outlook.beyond_ms() };
    // No faster than time passes; a second more or less is part of every margin.
    (left_ms > 0 || !fleet.job.hurried).then(|| now.plus_ms(u64::try_from(left_ms).unwrap_or(0).max(1_000)))
}
