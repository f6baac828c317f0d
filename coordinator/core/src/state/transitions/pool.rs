//! Changes of a pool.

use crate::event::{LaunchError, LaunchErrorKind, PoolSpec};
use crate::ids::{InstanceId, JobId, PoolName, Timestamp};
use crate::state::{Pool, Reach, Rejected, Rest, State};

impl State {
    pub(crate) fn announce_pool(&mut self, spec: PoolSpec) {
        let name = spec.name.clone();
        // A job that found none of its pools was not noted as lacking anything.
        if self.unannounced.remove(&name) || !self.pools.contains_key(&name) {
            self.touch_all();
        } else if self.pools.get(&name).is_some_and(|pool| pool.spec == spec) {
            return;
        }
        let in_use = || self.pairs.instances().filter(|instance| instance.pool == name).count();
        let pool = self.pools.entry(name.clone()).or_insert_with(|| {
            let in_use = u32::try_from(in_use()).unwrap_or(u32::MAX);
            Pool { in_use, ..Pool::new(PoolSpec { capacity: 0, ..spec.clone() }) }
        });
        if spec.capacity_told && spec.capacity > pool.spec.capacity {
            self.rests.remove(&Reach::Place { pool: name.clone() });
        }
        let moved = pool.spec.price != spec.price;
        let better = moved || spec.capacity > pool.spec.capacity;
        pool.spec = spec;
        self.marks.pools = true;
        if better {
            self.marks.touch_offers();
        }
        if moved {
            self.touch_budgets();
        }
        self.changes.pools.insert(name);
    }

    /// Jobs whose time has come are looked at again, and pools whose rest is over.
    pub(crate) fn touch_due(&mut self, now: Timestamp) {
        for job in self.wakes.due(now) {
            self.marks.touch(&job);
        }
        if self.review.is_some_and(|at| at <= now) {
            self.review = None;
            for job in self.watchful.union(&self.dated) {
                self.marks.touch(job);
            }
        }
        if self.short_review.is_some_and(|at| at <= now) {
            self.short_review = None;
            self.marks.short_due = true;
        }
        for rest in self.rests.values_mut().filter(|rest| rest.until <= now && !rest.over) {
            rest.over = true;
            self.marks.touch_offers();
        }
    }

    /// Planning has come to an end. What the market's changes mean to a deadline is looked at for all together, before
    /// long: it is minutes that count there, and in a large fleet the market always changes.
    pub(crate) fn clear_marks(&mut self, now: Timestamp) {
        let marks = std::mem::take(&mut self.marks);
        if marks.market() && !(self.watchful.is_empty() && self.dated.is_empty()) {
            self.review.get_or_insert(now.plus_ms(self.settings.review_ms));
        }
        if marks.all_short() || self.short.is_empty() {
            self.short_review = None;
        } else if marks.purchases() {
            self.short_review.get_or_insert(now.plus_ms(self.settings.short_review_ms));
        }
    }

    /// Jobs whose accounts have changed are looked at again: their budgets may be used up.
    pub(crate) fn touch_accounts(&mut self) {
        let jobs = self.changes.accounts.iter().chain(self.changes.bills.iter().map(|(job, _)| job));
        for job in jobs {
            self.marks.touch(job);
        }
        if self.changes.shared_costs {
            self.touch_budgets();
        }
    }

    /// Jobs with a budget are looked at again: something costs more or less.
    fn touch_budgets(&mut self) {
        for (job, submission) in &self.submissions {
            if submission.spec.policy.budget_usd.is_some() {
                self.marks.touch(job);
            }
        }
    }

    /// Whether the job looks at offers though it lacks nothing, and whether it has a deadline to keep.
    pub(crate) fn set_watchful(&mut self, job: &JobId, watchful: bool, dated: bool) {
        for (set, is_in) in [(&mut self.watchful, watchful), (&mut self.dated, dated)] {
            match (is_in, set.contains(job)) {
                (true, false) => set.insert(job.clone()),
                (false, true) => set.remove(job),
                _ => false,
            };
        }
    }

    /// Everything is looked at again.
    pub(crate) fn touch_all(&mut self) {
        for job in self.jobs.keys() {
            self.marks.touch(job);
        }
        self.marks.touch_offers();
    }

    /// It had nothing to give; how often in a row, and for how long it is left alone.
    pub(crate) fn rest(&mut self, now: Timestamp, reach: Reach, kind: LaunchErrorKind) -> (u32, u64) {
        let failures = self.rests.get(&reach).map_or(0, |rest| rest.failures) + 1;
        let wait_ms = match kind {
            LaunchErrorKind::Quota => self.settings.quota_rest_ms,
            _ => self.settings.backoff_ms(failures),
        };
        self.rests.insert(reach, Rest { kind, failures, until: now.plus_ms(wait_ms), over: false });
        self.marks.pools = true;
        (failures, wait_ms)
    }

    /// It gave an instance: nothing that concerns it is left alone any more.
    pub(crate) fn trust_pool(&mut self, pool: &PoolName) {
        self.end_rests(pool, |_| true);
    }

    /// An instance was given back: a quota that concerns its pool has room again.
    pub(crate) fn return_quota(&mut self, pool: &PoolName) {
        self.end_rests(pool, |rest| rest.kind == LaunchErrorKind::Quota);
    }

    fn end_rests(&mut self, pool: &PoolName, ends: impl Fn(&Rest) -> bool) {
        let Some(pool) = self.pools.get(pool).filter(|_| !self.rests.is_empty()) else { return };
        for reach in Reach::all(&pool.spec) {
            if self.rests.get(&reach).is_some_and(&ends) {
                self.rests.remove(&reach);
                self.marks.touch_offers();
            }
        }
    }

    /// The job can't use what the error concerns. False: that was known.
    pub(crate) fn reject(&mut self, now: Timestamp, job: &JobId, pool: &PoolName, error: &LaunchError) -> bool {
        let Some(spec) = self.pools.get(pool).map(|pool| pool.spec.clone()) else { return false };
        let (reach, retry_ms) = (Reach::of(&spec, error.scope), self.settings.rejected_rest_ms);
        let rejected = &mut self.job_mut(job).rejected;
        let known = rejected.iter().any(|known| known.reach.covers(&spec) && now < known.at.plus_ms(retry_ms));
        rejected.retain(|known| known.reach != reach);
        rejected.push(Rejected { reach, pool: pool.clone(), reason: error.message.clone(), at: now });
        !known
    }

    pub(crate) fn count_pool_eviction(&mut self, now: Timestamp, pool: &PoolName) {
        self.watch(now, pool);
        if let Some(entry) = self.pools.get_mut(pool) {
            entry.evictions += 1;
            entry.hazard.evicted();
            self.marks.figures = true;
            self.changes.pools.insert(pool.clone());
        }
    }

    /// Before the pool has more or fewer instances in use: those that it had until now were watched.
    pub(crate) fn watch(&mut self, now: Timestamp, pool: &PoolName) {
        let (in_use, half_life_ms) = (self.in_use(pool), self.settings.hazard_half_life_ms);
        if let Some(entry) = self.pools.get_mut(pool) {
            entry.hazard.watch(now, in_use, half_life_ms);
        }
    }

    /// The instance's worker attached for the first time.
    pub(crate) fn measure_start(&mut self, now: Timestamp, instance: &InstanceId) {
        let Some(instance) = self.pairs.instance(instance) else { return };
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            pool.started_in(now.since_ms(instance.launched));
            self.marks.figures = true;
            self.changes.pools.insert(instance.pool.clone());
        }
    }
}
