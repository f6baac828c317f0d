//! All providers of a coordinator, as one: what is asked of a pool goes to the provider that has it. One that is down
//! does not hold up the others.

use crate::auth::Keys;
use crate::pools::Pools;
use coordinator_core::{Event, InstanceId, PoolName, ProviderName};
use coordinator_local::{LocalConfig, LocalProvider, StartError};
use coordinator_provider::{PoolView, Provider, UnknownPool, WorkerToken};
use coordinator_static::{StaticConfig, StaticProvider};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long a machine of one's own that works may be away.
const MACHINES_RETURN_WITHIN: Duration = Duration::from_secs(5);
/// What a machine of one's own gets, beyond the time that it was given, to end a worker.
const MACHINES_END_WITHIN: Duration = Duration::from_secs(15);
/// Names of unowned instances that are kept for people to see.
const UNOWNED_MAX: usize = 64;

/// Where the coordinator is, for those who start machines.
pub(crate) struct Site {
    pub(crate) cluster: String,
    /// By which machines reach it, unless `pools.toml` names another.
    pub(crate) address: String,
    /// By which they know it, on one line; `None`: it answers in the clear.
    pub(crate) certificate: Option<String>,
    pub(crate) coordinator_file: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) worker_program: PathBuf,
    pub(crate) keys: Keys,
    /// For how long each local pool's trace has gone on already.
    pub(crate) running_for: BTreeMap<PoolName, Duration>,
    /// There are instances on record, so machines may be at work.
    pub(crate) awaited: bool,
}

/// The providers.
pub(crate) struct Providers {
    all: Vec<Arc<dyn Provider>>,
    /// The one that machines join.
    machines: Arc<StaticProvider>,
    /// Pools as they are configured and as jobs list them.
    names: BTreeSet<PoolName>,
    /// By which machines reach the coordinator.
    url: String,
    certificate: Option<String>,
    unowned: Mutex<BTreeMap<InstanceId, ProviderName>>,
}

impl Providers {
    /// Starts all of them. What they tell comes out of the channel.
    pub(crate) fn start(pools: Pools, site: Site) -> Result<(Self, mpsc::UnboundedReceiver<Event>), StartError> {
        let (events, receiver) = mpsc::unbounded_channel();
        let Site { cluster, address, certificate, coordinator_file, logs, worker_program, keys, running_for, awaited } =
            site;
        let token: WorkerToken = Arc::new(move |instance| keys.worker_token(instance));
        let local = LocalProvider::start(LocalConfig {
            cluster: cluster.clone(),
            program: worker_program,
            coordinator_file,
            logs,
            token: Arc::clone(&token),
            pools: pools.local,
            running_for,
            events: events.clone(),
        })?;
        let machines = StaticProvider::start(StaticConfig {
            token: Arc::clone(&token),
            pools: pools.fixed,
            return_within: MACHINES_RETURN_WITHIN,
            awaited,
            end_within: MACHINES_END_WITHIN,
            events: events.clone(),
        });
        let mut all: Vec<Arc<dyn Provider>> = vec![Arc::new(local)];
        all.push(machines.clone());
        let url = pools.url.unwrap_or(address);
        #[cfg(feature = "aws")]
        if let (false, Some(bundle)) = (pools.aws.is_empty(), pools.bundles.of("s3").cloned()) {
            all.push(coordinator_ec2::start(coordinator_ec2::Ec2Config {
                cluster: cluster.clone(),
                coordinator_url: url.clone(),
                certificate: certificate.clone(),
                token: Arc::clone(&token),
                bundle,
                pools: pools.aws,
                events: events.clone(),
            }));
        }
        #[cfg(feature = "gcp")]
        if let (false, Some(bundle)) = (pools.gcp.is_empty(), pools.bundles.of("gs").cloned()) {
            all.push(coordinator_gcp::start(coordinator_gcp::GcpConfig {
                cluster: cluster.clone(),
                coordinator_url: url.clone(),
                certificate: certificate.clone(),
                token: Arc::clone(&token),
                bundle,
                pools: pools.gcp,
                events: events.clone(),
                pace: coordinator_gcp::Pace::default(),
            }));
        }
        Ok((Self { all, machines, names: pools.names, url, certificate, unowned: Mutex::default() }, receiver))
    }

    /// With one more.
    #[cfg(test)]
    pub(crate) fn and(mut self, provider: Arc<dyn Provider>, pools: &[&str]) -> Self {
        self.names.extend(pools.iter().map(|name| PoolName::from(*name)));
        self.all.push(provider);
        self
    }

    pub(crate) fn named(&self, name: &ProviderName) -> Option<&Arc<dyn Provider>> {
        self.all.iter().find(|provider| provider.name() == *name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.all.iter()
    }

    /// The one that machines join.
    pub(crate) fn machines(&self) -> &StaticProvider {
        &self.machines
    }

    /// By which machines reach the coordinator.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// By which they know it, on one line; `None`: it answers in the clear.
    pub(crate) fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// Pools as they are configured and as jobs list them.
    pub(crate) fn names(&self) -> &BTreeSet<PoolName> {
        &self.names
    }

    /// All pools and their places, by name.
    pub(crate) fn pools(&self) -> Vec<PoolView> {
        let mut pools: Vec<PoolView> = self.all.iter().flat_map(|provider| provider.pools()).collect();
        pools.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        pools
    }

    /// Bounds a pool, or one place of it.
    pub(crate) fn set_capacity(&self, pool: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let set = self.all.iter().find_map(|provider| provider.set_capacity(pool, capacity).ok());
        set.ok_or_else(|| {
            let known: Vec<PoolName> = self.pools().into_iter().map(|view| view.spec.name).collect();
            UnknownPool::new(pool, &known)
        })
    }

    /// Instances that have not ended.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.all.iter().map(|provider| provider.running()).sum()
    }

    pub(crate) fn pause(&self) {
        for provider in &self.all {
            provider.pause();
        }
    }

    /// Ends every instance of every provider.
    pub(crate) async fn stop(&self, grace: Duration) {
        let mut stopping = JoinSet::new();
        for provider in &self.all {
            let provider = Arc::clone(provider);
            stopping.spawn(async move { provider.stop(grace).await });
        }
        stopping.join_all().await;
    }

    /// Instances under the cluster's tag that nobody asked for. `true`: this one is new.
    pub(crate) fn note_unowned(&self, instance: &InstanceId, provider: &ProviderName) -> bool {
        let mut unowned = self.unowned.lock().unwrap_or_else(PoisonError::into_inner);
        let new = unowned.insert(instance.clone(), provider.clone()).is_none();
        if unowned.len() > UNOWNED_MAX {
            unowned.pop_first();
        }
        new
    }

    /// Instances of the provider that nobody asked for and that were ended, the newest of those since the start.
    pub(crate) fn unowned(&self, provider: &ProviderName) -> Vec<InstanceId> {
        let unowned = self.unowned.lock().unwrap_or_else(PoisonError::into_inner);
        unowned.iter().filter(|(_, of)| *of == provider).map(|(instance, _)| instance.clone()).collect()
    }
}
