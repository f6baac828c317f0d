//! Starts a coordinator: how it is to run, what can be wrong with that, and what its owner holds while it runs.

use crate::auth::Keys;
use crate::clock::Clock;
use crate::driver::{Driver, DriverError, Parts};
use crate::home::{CoordinatorFile, HomeError};
use crate::prepare::{Prepared, prepare};
use crate::providers::{Providers, Site};
use crate::records::RecordError;
use crate::services::{JobsService, MachinesService, WorkersService};
use crate::stop::{StopHandle, StopMode};
use crate::store::{FAIL_AT_VARIABLE, StoreError};
use crate::whole::{Services, Whole, answer, server};
use coordinator_core::{LoadError, Settings};
use coordinator_local::StartError;
use coordinator_provider::table::Problems;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainctl_proto::v1::InfoReply;

/// Whether calls are answered over TLS. Where they are, others are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tls {
    /// Unless only this machine can call.
    #[default]
    Auto,
    /// On this machine as well.
    Always,
    /// In a network where nobody else listens.
    Never,
}

impl Tls {
    pub(crate) fn applies_to(self, address: IpAddr) -> bool {
        match self {
            Self::Auto => !address.is_loopback(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// How to run a coordinator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps its state; made if it is not there, for its user alone.
    pub home: PathBuf,
    /// Where it listens; port 0: any that is free.
    pub listen: SocketAddr,
    /// Whether calls are encrypted.
    pub tls: Tls,
    /// `pools.toml`. Absent: a spot pool `local-spot` and a pool `local`, of 8 workers each.
    pub pools_file: Option<PathBuf>,
    /// The worker program.
    pub worker_program: PathBuf,
    /// A worker that has neither a coordinator nor work for so long saves and exits.
    pub orphan_s: u32,
    /// What an instance under the cluster's tag that nobody asked for gets to end by itself.
    pub unowned_grace: Duration,
    /// The scheduler's bounds and waiting times.
    pub settings: Settings,
}

impl Options {
    /// In this home, on any free port of the loopback, with the default pools. The worker program is the one that
    /// `TRAINCTL_WORKER` names, else `trainctl-worker` beside the running program.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: Tls::default(),
            pools_file: None,
            worker_program: default_worker_program(),
            orphan_s: 60,
            unowned_grace: Duration::from_secs(10),
            settings: Settings::default(),
        }
    }
}

/// The program that `TRAINCTL_WORKER` names, else `trainctl-worker` beside the running one.
#[must_use]
pub fn default_worker_program() -> PathBuf {
    if let Some(named) = std::env::var_os("TRAINCTL_WORKER") {
        return PathBuf::from(named);
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    beside.unwrap_or_default().join(coordinator_local::DEFAULT_PROGRAM)
}

/// A coordinator can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its home can't be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its pools don't hold.
    #[error(transparent)]
    Pools(#[from] Problems),
    /// Somebody else listens there.
    #[error(
        "listen on {address}: expected a free port, found it taken\n\
         hint: stop the program that listens there, or choose another port with --listen; port 0 takes any"
    )]
    PortTaken {
        /// Where.
        address: SocketAddr,
    },
    /// It can't listen there.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds can't be read.
    #[error("load the coordinator's state")]
    Load(#[from] LoadError),
    /// What the store holds of the server's own can't be read.
    #[error("load the coordinator's state")]
    Record(#[from] RecordError),
    /// `TRAINCTL_FAIL_AT_WRITE` is no number.
    #[error("{FAIL_AT_VARIABLE}: expected the number of a commit, from 1, found {found:?}")]
    FailAt {
        /// What it is.
        found: String,
    },
    /// What its provider runs can't be found out.
    #[error(transparent)]
    Provider(#[from] StartError),
    /// It was running and can't go on.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// It was running and can't answer any more.
    #[error("answer calls")]
    Answer(#[source] tonic::transport::Error),
    /// One of its tasks panicked.
    #[error("a task of the coordinator ended")]
    Task(#[source] tokio::task::JoinError),
}

/// A coordinator that runs. When this is dropped it goes on until the runtime ends.
#[derive(Debug)]
pub struct Running {
    address: String,
    token_file: PathBuf,
    home: PathBuf,
    cluster: String,
    stop: StopHandle,
    task: JoinHandle<Result<(), ServeError>>,
    ended: watch::Receiver<bool>,
}

impl Running {
    /// Where it listens, `http://HOST:PORT`, or `https://HOST:PORT` where calls are encrypted.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The file with the token that every call carries.
    #[must_use]
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Where it keeps its state; absolute.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The id of its state, tagged on every process of a worker.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Saves the jobs, ends their workers and stops. Workers that take more than a minute are ended by force. The jobs go
    /// on when a coordinator starts in the same home.
    pub async fn suspend(&self) {
        self.stop_as(StopMode::Suspend).await;
    }

    /// Stops and lets the workers train on by themselves; a coordinator that starts in the same home adopts them.
    pub async fn leave(&self) {
        self.stop_as(StopMode::Leave).await;
    }

    /// Kills the workers and stops, also while it suspends. The jobs go on from their newest checkpoints when a
    /// coordinator starts in the same home.
    pub async fn kill(&self) {
        self.stop_as(StopMode::Kill).await;
    }

    async fn stop_as(&self, mode: StopMode) {
        self.stop.stop(mode).await;
        self.stopped().await;
    }

    /// Until it has ended, for whatever reason; [`Self::wait`] tells it.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        // An error says that the task is gone, and so has it.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Until it has ended.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn wait(self) -> Result<(), ServeError> {
        self.task.await.map_err(ServeError::Task)?
    }
}

/// Starts a coordinator; it listens when this returns. Needs a tokio runtime.
///
/// # Errors
/// Anything that is wrong with its home, its pools, its port, its store or its provider.
pub async fn serve(options: Options) -> Result<Running, ServeError> {
    let clock = Clock::start();
    let (worker_program, orphan_s) = (options.worker_program.clone(), options.orphan_s);
    let unowned_grace = options.unowned_grace;
    let prepared = tokio::task::spawn_blocking(move || prepare(options, clock)).await.map_err(ServeError::Task)??;
    let Prepared { home, token, identity, listener, local, store, core, cluster, job_keys, pools, running_for } =
        prepared;
    let listener = TcpListener::from_std(listener).map_err(|source| ServeError::Listen { address: local, source })?;

    let keys = Keys::new(&token);
    let scheme = if identity.is_some() { "https" } else { "http" };
    let address = format!("{scheme}://{local}");
    let certificate = identity.as_ref().map(|identity| identity.certificate.line());
    let server = server(identity.as_ref()).map_err(|_| HomeError::Identity {
        path: home.identity_file(),
        found: "a key that is not the certificate's",
    })?;
    let site = Site {
        cluster: cluster.clone(),
        address: address.clone(),
        certificate: certificate.clone(),
        coordinator_file: home.coordinator_file(),
        logs: home.logs(),
        worker_program,
        keys: keys.clone(),
        running_for,
        awaited: !core.instances().is_empty(),
    };
    let (providers, provider_events) = Providers::start(pools, site)?;
    let providers = Arc::new(providers);
    let file = CoordinatorFile {
        address,
        certificate,
        pid: std::process::id(),
        cluster: cluster.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    // Before the driver starts: the workers that it launches look for it.
    home.announce(&file)?;

    let (driver, handle) = Driver::new(Parts {
        core,
        store: Arc::clone(&store),
        providers: Arc::clone(&providers),
        provider_events,
        job_keys,
        clock,
        logs: home.logs(),
        orphan_s,
        unowned_grace,
    });
    let (stop_sender, stop_requests) = mpsc::channel(1);
    let stop = StopHandle(stop_sender);
    let stopping = CancellationToken::new();
    let info = InfoReply { version: file.version, cluster: cluster.clone(), pid: file.pid, started_ms: clock.now().0 };
    let jobs = JobsService {
        driver: handle.clone(),
        providers: Arc::clone(&providers),
        keys: keys.clone(),
        clock,
        info,
        runs: home.runs(),
        logs: home.logs(),
        stop: stop.clone(),
        stopping: stopping.clone(),
    };
    let workers = WorkersService { driver: handle.clone(), stopping: stopping.clone() };
    let machines =
        MachinesService { providers: Arc::clone(&providers), cluster: cluster.clone(), stopping: stopping.clone() };
    let server = tokio::spawn(answer(server, listener, keys, Services { jobs, workers, machines }, stopping.clone()));
    let driver = tokio::spawn(driver.run());
    let (token_file, home_path) = (home.token_file(), home.path().to_owned());
    tracing::info!(address = %file.address, home = %home_path.display(), "the coordinator listens");
    let (ended_sender, ended) = watch::channel(false);
    let whole = Whole { home, store, providers, handle, driver, server, stopping, ended: ended_sender };
    let task = tokio::spawn(whole.run(stop_requests));
    Ok(Running { address: file.address, token_file, home: home_path, cluster, stop, task, ended })
}
