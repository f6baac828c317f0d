//! The books: which instances run, in which pool, and what was told of them. One lock guards them, so what is told comes
//! in the order in which it happened.

use super::LocalConfig;
use crate::capacity::Pool;
use crate::process::Process;
use coordinator_core::{DownCause, Event, InstanceId, PoolName, PoolSpec, Timestamp};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Shared by the provider, the watchers of its processes and the replays of its traces.
pub(crate) struct Inner {
    pub(super) config: LocalConfig,
    state: Mutex<State>,
    /// How many processes there are.
    pub(super) count: watch::Sender<usize>,
}

pub(super) struct State {
    pub(super) pools: BTreeMap<PoolName, Pool>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    /// What was told last, so that a pool is told of only when it changed.
    told: BTreeMap<PoolName, PoolSpec>,
    /// Unbounded so that no call waits for its reader. What can pile up is bounded all the same: three events for an
    /// instance that the reader itself asked for, and one for a change of a pool.
    events: mpsc::UnboundedSender<Event>,
    pub(super) stopping: bool,
}

/// One that runs.
pub(super) struct Instance {
    pub(super) process: Arc<Process>,
    pub(super) pool: Option<PoolName>,
    /// Set by the first who ended it; what its end is put down to.
    pub(super) ending: Option<DownCause>,
    pub(super) kill_at: watch::Sender<Option<Instant>>,
}

impl Inner {
    pub(super) fn new(config: LocalConfig, pools: BTreeMap<PoolName, Pool>) -> Self {
        let events = config.events.clone();
        let state = State { pools, instances: BTreeMap::new(), told: BTreeMap::new(), events, stopping: false };
        Self { config, state: Mutex::new(state), count: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change to a pool and evicts, with the pool's notice, whom it names.
    pub(crate) fn change_pool(&self, name: &PoolName, change: impl FnOnce(&mut Pool) -> Vec<InstanceId>) {
        self.lock().change_pool(name, change);
    }
}

impl State {
    /// As [`Inner::change_pool`], for who holds the lock.
    pub(super) fn change_pool(&mut self, name: &PoolName, change: impl FnOnce(&mut Pool) -> Vec<InstanceId>) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let victims = change(pool);
        let notice = pool.config().notice;
        self.take(victims, notice);
        self.tell_pool(name);
    }

    /// Takes instances away; the pool's books know already.
    pub(super) fn take(&mut self, victims: Vec<InstanceId>, notice: Duration) {
        for id in victims {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            tracing::info!(instance = %id, notice_ms = notice.as_millis(), "the pool takes an instance");
            instance.end(DownCause::Evicted, notice);
            if !notice.is_zero() {
                instance.process.signal(Signal::TERM);
                let deadline = now().plus_ms(u64::try_from(notice.as_millis()).unwrap_or(u64::MAX));
                self.tell(Event::EvictionNotice { instance: id, deadline });
            }
        }
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody listens any more when the coordinator is stopping.
        let _ = self.events.send(event);
    }

    pub(super) fn tell_pool(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get(name).map(Pool::spec) else { return };
        if self.told.insert(name.clone(), pool.clone()).as_ref() != Some(&pool) {
            self.tell(Event::PoolChanged { pool });
        }
    }
}

impl Instance {
    /// Kills it after the time, or sooner if that was asked for before. The first cause stays; a signal that makes it
    /// end is sent after this, or it would seem to have ended by itself.
    pub(super) fn end(&mut self, cause: DownCause, after: Duration) {
        // Peers often tell of a death before the process's end is noticed here: that end is not this cause's.
        if !self.process.is_ending() {
            self.ending.get_or_insert(cause);
        }
        if after.is_zero() {
            self.process.signal(Signal::KILL);
        }
        let deadline = Instant::now() + after;
        self.kill_at.send_modify(|at| *at = Some(at.map_or(deadline, |earlier| earlier.min(deadline))));
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
