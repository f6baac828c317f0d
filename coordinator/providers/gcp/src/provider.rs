//! The provider: the trait's calls, none of which waits, and what all of them share.

use crate::api::{Account, Api};
use crate::books::Books;
use crate::pools::PoolConfig;
use crate::watching;
use async_trait::async_trait;
use coordinator_core::{DownCause, Event, InstanceId, PoolName, ProviderName};
use coordinator_provider::{Bundle, LaunchRequest, PoolView, Provider, UnknownPool, WorkerToken};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// What the provider needs to know.
pub struct GcpConfig {
    /// Labels every VM.
    pub cluster: String,
    /// How VMs reach the coordinator.
    pub coordinator_url: String,
    /// By which they know it; `None`: it answers in the clear.
    pub certificate: Option<String>,
    /// Makes the token of an instance's worker.
    pub token: WorkerToken,
    /// What a VM fetches and runs.
    pub bundle: Bundle,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// Where it tells what happens.
    pub events: mpsc::UnboundedSender<Event>,
    /// How often it asks.
    pub pace: Pace,
}

/// How often the API is asked, and how patiently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Between two lists while the API answers.
    pub list: Duration,
    /// The longest time between two lists while it doesn't.
    pub list_longest: Duration,
    /// Before an operation is looked at; up to eight times as long later.
    pub operation: Duration,
    /// Before a call that may work in a moment is made again; up to 16 times as long later.
    pub retry: Duration,
    /// How often it is made again.
    pub retries: usize,
    /// How long a call may take.
    pub call: Duration,
    /// A VM powers itself off when the coordinator hasn't answered for so long.
    pub orphan: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            list: Duration::from_secs(10),
            list_longest: Duration::from_secs(60),
            operation: Duration::from_millis(500),
            retry: Duration::from_millis(500),
            retries: 6,
            call: Duration::from_secs(30),
            orphan: Duration::from_secs(15 * 60),
        }
    }
}

impl Pace {
    pub(crate) fn orphan_minutes(&self) -> u32 {
        u32::try_from(self.orphan.as_secs().div_ceil(60)).unwrap_or(u32::MAX)
    }
}

/// Runs workers on VMs of Google Compute Engine.
pub struct GcpProvider {
    inner: Arc<Inner>,
}

/// Shared by the provider and its tasks.
pub(crate) struct Inner {
    pub(crate) config: GcpConfig,
    apis: BTreeMap<Account, Api>,
    books: Mutex<Books>,
    count: watch::Sender<usize>,
    /// Rings when a purchase has come to its end, whichever.
    pub(crate) bought: Notify,
    /// Rings when one that ends is to end sooner.
    pub(crate) hurry: Notify,
    /// Stopped VMs that are being deleted.
    pub(crate) sweeping: Mutex<BTreeSet<String>>,
}

/// Starts it. Returns at once, in a tokio runtime; an API that does not answer is asked again, and told of in the log.
#[must_use]
pub fn start(config: GcpConfig) -> Arc<dyn Provider> {
    Arc::new(GcpProvider::start(config))
}

impl GcpProvider {
    /// As [`start`].
    #[must_use]
    pub fn start(config: GcpConfig) -> Self {
        let count = watch::Sender::new(0);
        let books = Mutex::new(Books::new(&config.pools, config.events.clone(), count.clone()));
        let accounts = config.pools.iter().map(PoolConfig::account);
        let apis = accounts.map(|account| (account.clone(), Api::new(account, config.pace.call))).collect();
        let inner = Arc::new(Inner {
            config,
            apis,
            books,
            count,
            bought: Notify::new(),
            hurry: Notify::new(),
            sweeping: Mutex::default(),
        });
        tokio::spawn(watching::watch(Arc::downgrade(&inner)));
        Self { inner }
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.apis.keys()
    }

    /// Of a pool that is configured, or was when its VM was entered: there is one for each.
    pub(crate) fn api(&self, account: &Account) -> &Api {
        &self.apis[account]
    }

    fn view(books: &Books, name: &PoolName) -> Option<PoolView> {
        let offer = books.offers().get(name)?;
        let note = books.trouble.as_ref().map(|trouble| format!("the API can't be read: {trouble}"));
        Some(PoolView {
            spec: books.spec(offer),
            in_use: books.in_use(name),
            evictions: offer.evictions,
            note: note.unwrap_or_default(),
        })
    }
}

#[async_trait]
impl Provider for GcpProvider {
    fn name(&self) -> ProviderName {
        ProviderName::from("gcp")
    }

    fn launch(&self, request: &LaunchRequest) {
        self.inner.launch(request);
    }

    fn terminate(&self, instance: &InstanceId, grace: Duration) {
        self.inner.end(instance, DownCause::Terminated, grace);
    }

    fn evict(&self, instance: &InstanceId, notice: Duration) {
        self.inner.take(instance, notice);
    }

    fn pools(&self) -> Vec<PoolView> {
        let books = self.inner.lock();
        books.offers().keys().filter_map(|name| Inner::view(&books, name)).collect()
    }

    fn set_capacity(&self, pool: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool> {
        let mut books = self.inner.lock();
        books.limit(pool, capacity);
        let Some(view) = Inner::view(&books, pool) else {
            return Err(UnknownPool::new(pool, books.offers().keys()));
        };
        books.changed();
        let mut of_offer: Vec<_> = books.held().iter().filter(|(_, held)| held.offer.as_ref() == Some(pool)).collect();
        of_offer.retain(|(_, held)| held.ending.is_none());
        of_offer.sort_by_key(|(_, held)| held.since);
        let victims: Vec<InstanceId> = of_offer.iter().skip(capacity as usize).map(|(id, _)| (*id).clone()).collect();
        drop(books);
        for instance in victims {
            self.inner.take(&instance, Duration::from_millis(view.spec.notice_ms));
        }
        Ok(view)
    }

    fn running(&self) -> usize {
        self.inner.lock().held().len()
    }

    fn pause(&self) {}

    async fn stop(&self, grace: Duration) {
        self.inner.lock().stopping = true;
        let mut count = self.inner.count.subscribe();
        loop {
            let held: Vec<InstanceId> = self.inner.lock().held().keys().cloned().collect();
            for instance in held {
                self.inner.end(&instance, DownCause::Terminated, grace);
            }
            // Fails only when the sender is gone, and it is in `self`.
            let _ = count.wait_for(|count| *count == 0).await;
            // What the books never knew is entered now, and ended in the next round.
            match self.inner.look().await {
                Ok(()) if self.running() == 0 => return,
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!("can't see whether VMs are left, tries again: {error}");
                    tokio::time::sleep(self.inner.config.pace.list).await;
                }
            }
        }
    }
}
