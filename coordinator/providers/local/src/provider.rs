//! The provider: starts, ends and watches workers, and takes them away as its pools say. What happens is told on one
//! channel, in the order in which it happened.
//!
//! No call waits: a driver that calls in here while its own queue is full can't be blocked by it.

mod books;
mod ending;
mod launching;

pub(crate) use books::Inner;

use crate::capacity::Pool;
use crate::pools::PoolConfig;
use crate::procfs;
use crate::replay;
use async_trait::async_trait;
use coordinator_core::{DownCause, Event, InstanceId, PoolName, ProviderName};
use coordinator_provider::{LaunchRequest, PoolView, Provider, UnknownPool, WorkerToken};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the provider needs to know.
pub struct LocalConfig {
    /// Tags every process.
    pub cluster: String,
    /// The worker program; looked at when the first is started.
    pub program: PathBuf,
    /// Where workers read the coordinator's address.
    pub coordinator_file: PathBuf,
    /// `<logs>/<job>/<worker>.log` is appended to.
    pub logs: PathBuf,
    /// Makes the token of an instance's worker.
    pub token: WorkerToken,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// For how long a pool has been going already, before this coordinator: its trace goes on from there.
    pub running_for: BTreeMap<PoolName, Duration>,
    /// Where it tells what happens.
    pub events: mpsc::UnboundedSender<Event>,
}

/// What the scheduler calls it.
pub const NAME: &str = "local";

/// Between two looks at what really runs.
const LIST_EVERY: Duration = Duration::from_secs(30);

/// The provider can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The running processes can't be listed.
    #[error("list processes in /proc")]
    List(#[source] io::Error),
    /// One of this cluster's processes can't be watched.
    #[error("watch process {pid} of instance {instance}")]
    Watch {
        /// Which instance.
        instance: InstanceId,
        /// Its process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs workers as processes of this machine.
pub struct LocalProvider {
    inner: Arc<Inner>,
    replays: Mutex<Vec<JoinHandle<()>>>,
    listing: JoinHandle<()>,
}

impl LocalProvider {
    /// Adopts what already runs under the cluster's tag and starts the pools. The first events, which are told when this
    /// returns, are `InstancesListed` and a `PoolChanged` for each pool. Needs a tokio runtime.
    ///
    /// # Errors
    /// The running processes can't be listed or watched: to go on would be to forget them.
    pub fn start(config: LocalConfig) -> Result<Self, StartError> {
        let mut pools: BTreeMap<PoolName, Pool> =
            config.pools.iter().map(|pool| (pool.name.clone(), Pool::new(pool.clone()))).collect();
        let mut replays = Vec::new();
        for (name, pool) in &mut pools {
            let Some(traced) = pool.config().trace.clone() else { continue };
            let running_for = config.running_for.get(name).copied().unwrap_or_default();
            let replay = replay::Replay::new(name.clone(), &traced, running_for);
            for change in replay.past() {
                // Nobody is in yet: the instances found below are put on the nodes that are left now.
                let _ = pool.apply(change);
            }
            replays.push(replay);
        }
        let found = procfs::find(&config.cluster).map_err(StartError::List)?;
        let inner = Arc::new(Inner::new(config, pools));
        inner.adopt_all(found)?;
        let replays = replays.into_iter().map(|replay| tokio::spawn(replay.run(Arc::downgrade(&inner)))).collect();
        let listing = tokio::spawn(list_again(Arc::downgrade(&inner)));
        Ok(Self { inner, replays: Mutex::new(replays), listing })
    }
}

async fn list_again(provider: Weak<Inner>) {
    loop {
        tokio::time::sleep(LIST_EVERY).await;
        let Some(inner) = provider.upgrade() else { return };
        let listed = procfs::find(&inner.config.cluster).map_err(StartError::List);
        if let Err(error) = listed.and_then(|found| inner.adopt_all(found)) {
            tracing::warn!(%error, "can't look again at what runs");
        }
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> ProviderName {
        ProviderName::from(NAME)
    }

    fn launch(&self, request: &LaunchRequest) {
        let mut state = self.inner.lock();
        let event = match self.inner.launch(&mut state, request) {
            Ok(pid) => Event::InstanceUp { instance: request.instance.clone(), pid: Some(pid), machine: None },
            Err(error) => Event::LaunchFailed { instance: request.instance.clone(), error },
        };
        state.tell(event);
    }

    /// One that is not there, because it ended while no coordinator ran, is told as vanished.
    fn terminate(&self, instance: &InstanceId, grace: Duration) {
        let mut state = self.inner.lock();
        match state.instances.get_mut(instance) {
            Some(running) => running.end(DownCause::Terminated, grace),
            None => {
                state.tell(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Vanished });
            }
        }
    }

    /// The instance's room comes back some time after the instance has gone. With a notice the worker gets SIGTERM now and
    /// `EvictionNotice` is told; at its end, or without one at once, it is killed.
    fn evict(&self, instance: &InstanceId, notice: Duration) {
        let mut state = self.inner.lock();
        let Some(running) = state.instances.get(instance) else { return };
        match running.pool.clone() {
            Some(name) => {
                if state.pools.get_mut(&name).is_some_and(|pool| pool.drill(instance)) {
                    state.take(vec![instance.clone()], notice);
                    state.tell_pool(&name);
                }
            }
            // Its pool is not configured any more.
            None => state.take(vec![instance.clone()], notice),
        }
    }

    fn pools(&self) -> Vec<PoolView> {
        self.inner.lock().pools.values().map(view).collect()
    }

    /// When the pool shrinks below what is in use, the youngest instances are evicted with its notice.
    fn set_capacity(&self, name: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let mut state = self.inner.lock();
        let state = &mut *state;
        let Some(pool) = state.pools.get_mut(name) else {
            return Err(UnknownPool::new(name, state.pools.keys()));
        };
        let victims = pool.resize(capacity);
        let notice = pool.config().notice;
        let view = view(pool);
        state.take(victims, notice);
        state.tell_pool(name);
        Ok(view)
    }

    fn running(&self) -> usize {
        self.inner.lock().instances.len()
    }

    /// Stops the traces.
    fn pause(&self) {
        for replay in self.replays.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            replay.abort();
        }
    }

    /// SIGTERM first, SIGKILL after the grace.
    async fn stop(&self, grace: Duration) {
        self.pause();
        {
            let mut state = self.inner.lock();
            state.stopping = true;
            for instance in state.instances.values_mut() {
                instance.end(DownCause::Terminated, grace);
                instance.process.signal(Signal::TERM);
            }
        }
        let mut count = self.inner.count.subscribe();
        // Fails only when the sender is gone, and it is in `self`.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for LocalProvider {
    fn drop(&mut self) {
        self.pause();
        self.listing.abort();
    }
}

fn view(pool: &Pool) -> PoolView {
    PoolView { spec: pool.spec(), in_use: pool.in_use(), evictions: pool.evictions(), note: pool.config().note() }
}
