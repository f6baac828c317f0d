//! The provider: what the driver calls. No call but `stop` waits; tasks do what takes time.

use crate::api::Ec2;
use crate::books::Books;
use crate::calls::Pace;
use crate::pools::PoolConfig;
use crate::region::{Inner, Region};
use async_trait::async_trait;
use coordinator_core::{DownCause, Event, InstanceId, PoolName, ProviderName};
use coordinator_provider::{LaunchRequest, PoolView, Provider, UnknownPool};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Makes the text that a machine in this region reads at its first boot.
pub type UserData = Arc<dyn Fn(&str, &LaunchRequest) -> String + Send + Sync>;

/// What the provider needs to know.
pub struct AwsConfig {
    /// Tags every machine.
    pub cluster: String,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// Absent: the launch template says all.
    pub user_data: Option<UserData>,
    /// How long to wait for what.
    pub pace: Pace,
    /// Where all is told.
    pub events: mpsc::UnboundedSender<Event>,
}

/// Buys, watches and ends EC2 instances.
pub struct AwsProvider {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl AwsProvider {
    /// Begins to look. `ec2` gives the API of a region. Needs a tokio runtime.
    pub fn start(config: AwsConfig, ec2: impl Fn(&str) -> Arc<dyn Ec2>) -> Self {
        let AwsConfig { cluster, pools, user_data, pace, events } = config;
        let names: BTreeSet<&String> = pools.iter().flat_map(|pool| pool.regions.keys()).collect();
        let regions: BTreeMap<String, Region> = names
            .into_iter()
            .map(|name| {
                let of_region = pools.iter().filter_map(|pool| Some((pool, pool.regions.get(name)?)));
                let (mut subnets, mut types) = (BTreeSet::new(), BTreeSet::new());
                for (pool, region) in of_region {
                    subnets.extend(region.subnets.iter().cloned());
                    types.extend(pool.types.iter().map(|kind| kind.name.clone()));
                }
                let (subnets, types) = (subnets.into_iter().collect(), types.into_iter().collect());
                (name.clone(), Region::new(name, ec2(name), pace, subnets, types))
            })
            .collect();
        let count = watch::Sender::new(0);
        let books = Books::new(pools, events, count.clone());
        let inner = Arc::new(Inner::new(cluster, pace, user_data, regions, books, count));
        let follow = |name: &String| tokio::spawn(Arc::clone(&inner).follow(name.clone()));
        let tasks = inner.regions.keys().map(follow).collect();
        Self { inner, tasks: Mutex::new(tasks) }
    }

    fn view(&self, books: &Books, name: &PoolName) -> Option<PoolView> {
        let spec = books.spec(name)?;
        let offer = books.offers.get(name)?;
        let pool = books.pools.get(&offer.pool)?;
        let (in_use, evictions) = books.use_of(name);
        let types: Vec<&str> = pool.types.iter().map(|kind| kind.name.as_str()).collect();
        let mut note = types.join(", ");
        for (_, trouble) in books.troubles.iter().filter(|(of, _)| of.split(' ').next() == Some(&offer.region)) {
            note = format!("{note}; {trouble}");
        }
        Some(PoolView { spec, in_use, evictions, note })
    }

    fn wake_all(&self) {
        for region in self.inner.regions.values() {
            region.ends.notify_one();
        }
    }

    /// Looks at every region, and returns when each has answered to a look that began after this.
    async fn look_again(&self) {
        for region in self.inner.regions.values() {
            let mut looked = region.looked.subscribe();
            // The one that is under way may have begun before.
            let after = *looked.borrow_and_update() + 2;
            while *looked.borrow() < after {
                region.looks.notify_one();
                if looked.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

#[async_trait]
impl Provider for AwsProvider {
    fn name(&self) -> ProviderName {
        ProviderName::from("aws")
    }

    fn launch(&self, request: &LaunchRequest) {
        self.inner.launch(request);
    }

    fn terminate(&self, instance: &InstanceId, grace: Duration) {
        self.inner.lock().terminate(instance, grace);
        self.wake_all();
    }

    fn evict(&self, instance: &InstanceId, notice: Duration) {
        self.inner.lock().evict(instance, notice);
        self.wake_all();
    }

    fn pools(&self) -> Vec<PoolView> {
        let books = self.inner.lock();
        books.offers.keys().filter_map(|name| self.view(&books, name)).collect()
    }

    fn set_capacity(&self, pool: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let mut books = self.inner.lock();
        books.limit(pool, capacity);
        let view = self.view(&books, pool).ok_or_else(|| UnknownPool::new(pool, books.offers.keys()));
        drop(books);
        self.wake_all();
        view
    }

    fn running(&self) -> usize {
        *self.inner.count.borrow()
    }

    fn pause(&self) {
        // Nothing is taken here but by request: what EC2 takes it takes.
    }

    async fn stop(&self, grace: Duration) {
        {
            let mut books = self.inner.lock();
            books.stopping = true;
            for owned in books.owned.values_mut() {
                owned.end(DownCause::Terminated, grace);
            }
        }
        let mut count = self.inner.count.subscribe();
        loop {
            self.wake_all();
            // Fails only when the sender is gone, and it is in `self`.
            let _ = count.wait_for(|count| *count == 0).await;
            // What was bought by a call whose answer was lost is not in the books.
            self.look_again().await;
            if *count.borrow_and_update() == 0 {
                break;
            }
        }
        self.abort();
    }
}

impl AwsProvider {
    fn abort(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Drop for AwsProvider {
    fn drop(&mut self) {
        self.abort();
    }
}
