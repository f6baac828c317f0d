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
use coordinator_core::{DownCause, Event, InstanceId, JobId, PoolName, PoolSpec, WorkerId};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    pub token: Box<dyn Fn(&InstanceId) -> String + Send + Sync>,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// For how long a pool has been going already, before this coordinator: its trace goes on from there.
    pub running_for: BTreeMap<PoolName, Duration>,
}

/// One instance to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchRequest {
    /// Tags the process; starting it twice starts one.
    pub instance: InstanceId,
    /// The worker on it.
    pub worker: WorkerId,
    /// From where.
    pub pool: PoolName,
    /// Its logs go there.
    pub job: JobId,
}

/// A pool as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolView {
    /// As the scheduler sees it.
    pub spec: PoolSpec,
    /// Instances that are not leaving.
    pub in_use: u32,
    /// Instances that it took since the coordinator started.
    pub evictions: u32,
    /// What makes its capacity move, in words; may be empty.
    pub note: String,
}

/// There is no pool of this name.
#[derive(Debug, thiserror::Error)]
#[error("pool: expected one of {known}, found {found:?}")]
pub struct UnknownPool {
    /// What was asked for.
    pub found: String,
    /// All names.
    pub known: String,
}

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
}

impl LocalProvider {
    /// Adopts what already runs under the cluster's tag and starts the pools. The first events, which are there when
    /// this returns, are `InstancesListed` and a `PoolChanged` for each pool. Needs a tokio runtime.
    ///
    /// # Errors
    /// The running processes can't be listed or watched: to go on would be to forget them.
    pub fn start(config: LocalConfig) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        let (events, receiver) = mpsc::unbounded_channel();
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
        let inner = Arc::new(Inner::new(config, pools, events));
        inner.adopt_all(found)?;
        let replays = replays.into_iter().map(|replay| tokio::spawn(replay.run(Arc::downgrade(&inner)))).collect();
        Ok((Self { inner, replays: Mutex::new(replays) }, receiver))
    }

    /// Starts a worker, unless the instance runs already. Told: `InstanceUp` or `LaunchFailed`.
    pub fn launch(&self, request: &LaunchRequest) {
        let mut state = self.inner.lock();
        let event = match self.inner.launch(&mut state, request) {
            Ok(pid) => Event::InstanceUp { instance: request.instance.clone(), pid: Some(pid) },
            Err(error) => Event::LaunchFailed { instance: request.instance.clone(), error },
        };
        state.tell(event);
    }

    /// Lets the instance end by itself for so long, then kills it; 0 kills at once. One that is not there, because it
    /// ended while no coordinator ran, is told as vanished.
    pub fn terminate(&self, instance: &InstanceId, grace: Duration) {
        let mut state = self.inner.lock();
        match state.instances.get_mut(instance) {
            Some(running) => running.end(DownCause::Terminated, grace),
            None => {
                state.tell(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Vanished });
            }
        }
    }

    /// A drill: takes the instance and its room, which comes back some time after the instance has gone. With a notice
    /// the worker gets SIGTERM now and `EvictionNotice` is told; at its end, or without one at once, it is killed.
    pub fn evict(&self, instance: &InstanceId, notice: Duration) {
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

    /// Sets how many instances a pool holds, until the coordinator starts anew. When it shrinks below what is in use,
    /// the youngest instances are evicted with the pool's notice.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn set_capacity(&self, name: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let mut state = self.inner.lock();
        let state = &mut *state;
        let Some(pool) = state.pools.get_mut(name) else {
            let known = state.pools.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(UnknownPool { found: name.to_string(), known });
        };
        let victims = pool.resize(capacity);
        let notice = pool.config().notice;
        let view = view(pool);
        state.take(victims, notice);
        state.tell_pool(name);
        Ok(view)
    }

    /// All pools, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolView> {
        self.inner.lock().pools.values().map(view).collect()
    }

    /// How many processes there are.
    #[must_use]
    pub fn running(&self) -> usize {
        *self.inner.count.borrow()
    }

    /// Stops the traces: from now on nothing is taken but by request.
    pub fn pause(&self) {
        for replay in self.replays.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            replay.abort();
        }
    }

    /// Ends every process, SIGTERM first and SIGKILL after the grace, and returns when none is left. Nothing can be
    /// launched any more.
    pub async fn stop(&self, grace: Duration) {
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
    }
}

fn view(pool: &Pool) -> PoolView {
    PoolView { spec: pool.spec(), in_use: pool.in_use(), evictions: pool.evictions(), note: pool.config().note() }
}
