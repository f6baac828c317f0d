//! The provider: gives waiting machines workers to be.

use crate::books::Inner;
use crate::pools::PoolConfig;
use crate::seat::{Hello, Order, Seat};
use async_trait::async_trait;
use coordinator_core::{DownCause, Event, InstanceId, LaunchError, LaunchErrorKind, PoolName, ProviderName, Scope};
use coordinator_provider::{LaunchRequest, PoolView, Provider, UnknownPool, WorkerToken};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the scheduler calls it.
pub const NAME: &str = "static";

/// Between two tellings of who is there.
const LIST_EVERY: Duration = Duration::from_secs(30);

/// What the provider needs to know.
pub struct StaticConfig {
    /// Makes the token of an instance's worker.
    pub token: WorkerToken,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// How long a machine that works may be away: its connection broke, or the coordinator has just started.
    pub return_within: Duration,
    /// Machines may be at work already: they are given that time before it is told which instances there are.
    pub awaited: bool,
    /// What a machine gets, beyond the time that it was given, to say that an instance has ended; then it is given up.
    pub end_within: Duration,
    /// Where it tells what happens.
    pub events: mpsc::UnboundedSender<Event>,
}

/// Between two looks for machines that do not do what they were told.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Runs workers on machines that joined.
pub struct StaticProvider {
    inner: Arc<Inner>,
    tasks: [JoinHandle<()>; 2],
}

impl StaticProvider {
    /// Tells of its pools at once, and which instances there are when machines have had the time to come back. Needs a
    /// tokio runtime.
    #[must_use]
    pub fn start(config: StaticConfig) -> Arc<Self> {
        let first = if config.awaited { config.return_within } else { Duration::ZERO };
        let inner = Arc::new(Inner::new(config));
        let provider = Arc::downgrade(&inner);
        let listing = tokio::spawn(async move {
            tokio::time::sleep(first).await;
            while let Some(inner) = provider.upgrade() {
                inner.list();
                drop(inner);
                tokio::time::sleep(LIST_EVERY).await;
            }
        });
        let provider = Arc::downgrade(&inner);
        let sweeping = tokio::spawn(async move {
            while let Some(inner) = provider.upgrade() {
                inner.sweep();
                drop(inner);
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        });
        Arc::new(Self { inner, tasks: [listing, sweeping] })
    }

    /// A machine is there (again). It reads its orders from the other end of `orders`, of which a few must have room.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn join(&self, pool: &PoolName, hello: Hello, orders: mpsc::Sender<Order>) -> Result<Seat, UnknownPool> {
        let machine = hello.machine.clone();
        let connection = self.inner.join(pool, hello, orders)?;
        Ok(Seat { inner: Arc::clone(&self.inner), machine, connection })
    }
}

#[async_trait]
impl Provider for StaticProvider {
    fn name(&self) -> ProviderName {
        ProviderName::from(NAME)
    }

    fn launch(&self, request: &LaunchRequest) {
        let LaunchRequest { instance, worker, pool, .. } = request;
        let mut state = self.inner.lock();
        if let Some(machine) = state.instances.get(instance) {
            // One that has not started yet is told when it has.
            state.tell_up(machine);
            return;
        }
        let failed = |kind, scope, message: String| Event::LaunchFailed {
            instance: instance.clone(),
            error: LaunchError { kind, scope, message },
        };
        let Some(view) = state.view(pool) else {
            let unknown = UnknownPool::new(pool, state.pools.keys()).to_string();
            state.tell(failed(LaunchErrorKind::Configuration, Scope::Pool, unknown));
            return;
        };
        if !state.stopping && view.in_use < view.spec.capacity {
            let token = (self.inner.config.token)(instance);
            let order = Order::Start { instance: instance.clone(), worker: worker.clone(), token };
            let waiting = state.waiting(pool);
            if waiting.iter().any(|machine| state.assign(machine, order.clone())) {
                self.inner.counted(&mut state);
                return;
            }
        }
        state.tell(failed(LaunchErrorKind::NoCapacity, Scope::Pool, format!("no machine of {pool} waits for work")));
    }

    /// A machine that is not connected is forgotten: should it come back, it is told to end what it was.
    fn terminate(&self, instance: &InstanceId, grace: Duration) {
        let mut state = self.inner.lock();
        if !state.end(instance, DownCause::Terminated, grace) {
            state.tell(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Vanished });
        }
        self.inner.counted(&mut state);
    }

    /// The machine waits for another worker afterwards.
    fn evict(&self, instance: &InstanceId, notice: Duration) {
        let mut state = self.inner.lock();
        state.evict(instance, notice);
        self.inner.counted(&mut state);
    }

    fn pools(&self) -> Vec<PoolView> {
        let state = self.inner.lock();
        state.pools.keys().filter_map(|name| state.view(name)).collect()
    }

    fn set_capacity(&self, name: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let mut state = self.inner.lock();
        let Some(pool) = state.pools.get_mut(name) else {
            return Err(UnknownPool::new(name, state.pools.keys()));
        };
        pool.limit = capacity;
        let notice = pool.config.notice;
        for instance in state.excess(name) {
            state.evict(&instance, notice);
        }
        self.inner.counted(&mut state);
        state.view(name).ok_or_else(|| UnknownPool::new(name, state.pools.keys()))
    }

    fn running(&self) -> usize {
        self.inner.lock().instances.len()
    }

    fn pause(&self) {}

    /// The machines themselves go on, and wait for the next coordinator.
    async fn stop(&self, grace: Duration) {
        {
            let mut state = self.inner.lock();
            state.stopping = true;
            for instance in state.instances.keys().cloned().collect::<Vec<_>>() {
                state.end(&instance, DownCause::Terminated, grace);
            }
            self.inner.counted(&mut state);
        }
        let mut count = self.inner.count.subscribe();
        // A machine that does not say that its worker ended is not waited for: it hears nothing more from here.
        let within = grace + self.inner.config.return_within;
        if tokio::time::timeout(within, count.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!(instances = *count.borrow(), "machines did not say that their workers have ended");
        }
    }
}

impl Drop for StaticProvider {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
