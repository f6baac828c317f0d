//! What to buy: each job in the order of submission takes what it wants from its pools, the preferred first. A job
//! that has no group starts whole or not at all, and until it can, younger jobs buy nothing from its pools, so that
//! small jobs can't starve a large one. A job too large for its pools blocks nobody.

use super::Choice;
use crate::ids::{JobId, PoolName, Timestamp};
use crate::state::{Job, Shortage, State, Submission, Worker};
use std::collections::BTreeMap;

/// Launches, notes of what is lacking, and what younger jobs give back.
pub(super) fn purchases(state: &State, now: Timestamp) -> Vec<Choice> {
    if !state.may_buy() {
        return Vec::new();
    }
    let mut market = Market::new(state, now);
    let mut choices = Vec::new();
    for (job, submission) in state.queue() {
        if job.hungry() {
            market.serve(job, submission, &mut choices);
        }
    }
    choices
}

struct Market<'s> {
    state: &'s State,
    /// What each pool would give now.
    free: BTreeMap<PoolName, u32>,
    /// Pools that an older job waits for.
    claimed: BTreeMap<PoolName, JobId>,
}

impl<'s> Market<'s> {
    fn new(state: &'s State, now: Timestamp) -> Self {
        let free = state.pools().map(|pool| {
            let name = &pool.spec.name;
            let free = if pool.resting(now) { 0 } else { pool.spec.capacity.saturating_sub(state.in_use(name)) };
            (name.clone(), free)
        });
        Self { state, free: free.collect(), claimed: BTreeMap::new() }
    }

    fn serve(&mut self, job: &Job, submission: &Submission, choices: &mut Vec<Choice>) {
        let pools = self.pools_of(job, submission);
        let (have, want) = (self.counted(job, None), submission.workers_max());
        if have >= want {
            self.note(job, None, choices);
            return;
        }
        if !pools.is_empty() && !pools.iter().any(|pool| self.state.announced(pool)) {
            return;
        }
        let available: u32 = pools.iter().map(|pool| self.available(pool)).sum();
        let needed = if job.groupless() { submission.workers_min().saturating_sub(have) } else { 0 };
        if available < needed {
            let shortage = self.shortage(job, submission, &pools, needed);
            if matches!(shortage, Shortage::NoCapacity { .. }) {
                self.reclaim(job, &pools, needed, choices);
                for pool in &pools {
                    self.claimed.entry(pool.clone()).or_insert_with(|| job.id.clone());
                }
            }
            self.note(job, Some(shortage), choices);
            return;
        }
        let bought = self.buy(job, &pools, have, want, choices);
        let lacking = want - have - bought;
        let shortage = (lacking > 0).then(|| self.shortage(job, submission, &pools, lacking));
        self.note(job, shortage, choices);
    }

    /// Pools of the job that exist and are not given up on, in its order of preference.
    fn pools_of(&self, job: &Job, submission: &Submission) -> Vec<PoolName> {
        let given_up = |pool: &PoolName| job.given_up(pool, &self.state.settings);
        submission.pools().filter(|pool| self.free.contains_key(pool) && !given_up(pool)).collect()
    }

    /// The job's workers that count, in one pool or in all.
    fn counted(&self, job: &Job, pool: Option<&PoolName>) -> u32 {
        let of_job = self.state.workers().filter(|worker| worker.job == job.id && worker.counts());
        let in_pool = |worker: &&Worker| {
            pool.is_none() || self.state.instance(&worker.instance).map(|instance| &instance.pool) == pool
        };
        u32::try_from(of_job.filter(in_pool).count()).unwrap_or(u32::MAX)
    }

    fn available(&self, pool: &PoolName) -> u32 {
        if self.claimed.contains_key(pool) { 0 } else { self.free.get(pool).copied().unwrap_or(0) }
    }

    fn buy(&mut self, job: &Job, pools: &[PoolName], have: u32, want: u32, choices: &mut Vec<Choice>) -> u32 {
        for bought in 0..want - have {
            let Some(at) = pools.iter().position(|pool| self.available(pool) > 0) else { return bought };
            let (pool, free) = (pools[at].clone(), self.available(&pools[at]));
            self.free.insert(pool.clone(), free - 1);
            let passed_over = pools[..at].to_vec();
            choices.push(Choice::Launch { job: job.id.clone(), pool, have: have + bought, want, free, passed_over });
        }
        want - have
    }

    fn shortage(&self, job: &Job, submission: &Submission, pools: &[PoolName], lacking: u32) -> Shortage {
        let capacity: u32 = pools.iter().filter_map(|pool| self.state.pool(pool)).map(|pool| pool.spec.capacity).sum();
        let min = submission.workers_min();
        if job.groupless() && capacity < min {
            return Shortage::TooSmall { min, capacity };
        }
        let claimed = pools.iter().find_map(|pool| {
            let older = self.claimed.get(pool)?;
            (self.free.get(pool).copied().unwrap_or(0) > 0).then(|| older.clone())
        });
        match claimed {
            Some(older) => Shortage::Behind { job: older },
            None => Shortage::NoCapacity { lacking, free: pools.iter().map(|pool| self.available(pool)).sum() },
        }
    }

    /// Workers that wait in younger jobs with no group, or in ones too large for their pools, go home when that is
    /// what the older job lacks. What is on its way out already counts as free.
    fn reclaim(&self, job: &Job, pools: &[PoolName], needed: u32, choices: &mut Vec<Choice>) {
        let pools: Vec<PoolName> = pools.iter().filter(|pool| !self.claimed.contains_key(pool)).cloned().collect();
        let lacking = needed.saturating_sub(pools.iter().map(|pool| self.free_in_the_end(pool)).sum()) as usize;
        let idle = self.idle_behind(job, &pools);
        if lacking == 0 || idle.len() < lacking {
            return;
        }
        let given = idle.into_iter().take(lacking);
        choices.extend(given.map(|worker| Choice::GiveBack { worker: worker.id.clone(), to: job.id.clone() }));
    }

    /// What the pool has free once all that are on their way out are gone.
    fn free_in_the_end(&self, pool: &PoolName) -> u32 {
        let staying: u32 = self.state.jobs().map(|job| self.counted(job, Some(pool))).sum();
        self.state.pool(pool).map_or(0, |pool| pool.spec.capacity.saturating_sub(staying))
    }

    /// Such workers in the job's pools, the newest first.
    fn idle_behind(&self, job: &Job, pools: &[PoolName]) -> Vec<&'s Worker> {
        let order = |job: &JobId| self.state.submission(job).map(|submission| submission.order);
        let mut idle: Vec<&Worker> = self
            .state
            .workers()
            .filter(|worker| {
                let (other, _) = self.state.job_of(&worker.job);
                let too_large = matches!(other.shortage, Some(Shortage::TooSmall { .. }));
                let yields =
                    other.id != job.id && other.groupless() && (order(&other.id) > order(&job.id) || too_large);
                let pool = self.state.instance(&worker.instance).map(|instance| &instance.pool);
                worker.counts() && yields && pool.is_some_and(|pool| pools.contains(pool))
            })
            .collect();
        idle.sort_by_key(|worker| std::cmp::Reverse(worker.number));
        idle
    }

    /// Said once for each change.
    fn note(&self, job: &Job, shortage: Option<Shortage>, choices: &mut Vec<Choice>) {
        if job.shortage != shortage {
            choices.push(Choice::Note { job: job.id.clone(), shortage });
        }
    }
}
