//! Changes of a pool.

use crate::event::PoolSpec;
use crate::ids::{PoolName, Timestamp};
use crate::state::{Backoff, Pool, State};

impl State {
    pub(crate) fn announce_pool(&mut self, spec: PoolSpec) {
        let name = spec.name.clone();
        self.unannounced.remove(&name);
        let pool =
            self.pools.entry(name.clone()).or_insert_with(|| Pool::new(PoolSpec { capacity: 0, ..spec.clone() }));
        if spec.capacity > pool.spec.capacity {
            pool.backoff = None;
        }
        pool.spec = spec;
        self.changes.pools.insert(name);
    }

    /// The pool had nothing to give; how often in a row, and for how long it is left alone.
    pub(crate) fn rest_pool(&mut self, now: Timestamp, pool: &PoolName) -> (u32, u64) {
        let failures = self.pools.get(pool).and_then(|pool| pool.backoff).map_or(0, |backoff| backoff.failures) + 1;
        let wait_ms = self.settings.backoff_ms(failures);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.backoff = Some(Backoff { failures, until: now.plus_ms(wait_ms) });
        }
        (failures, wait_ms)
    }

    pub(crate) fn trust_pool(&mut self, pool: &PoolName) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.backoff = None;
        }
    }

    pub(crate) fn count_pool_eviction(&mut self, pool: &PoolName) {
        if let Some(entry) = self.pools.get_mut(pool) {
            entry.evictions += 1;
            self.changes.pools.insert(pool.clone());
        }
    }
}
