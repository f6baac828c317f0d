//! The books: which machines there are, what was bought as which instance, and what was told of them. One lock guards
//! them, so what is told comes in the order in which it happened.

use crate::api::Bought;
use crate::offers::{NOTICE, Offer, Prices};
use crate::pools::PoolConfig;
use coordinator_core::{DownCause, Event, InstanceId, Market, PoolName, PoolSpec, Price, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// For so long a machine that was seen to end is not believed to run, whatever the API lists.
const BURIED_FOR: Duration = Duration::from_secs(600);

pub(crate) struct Books {
    pub(crate) pools: BTreeMap<PoolName, PoolConfig>,
    pub(crate) offers: BTreeMap<PoolName, Offer>,
    pub(crate) owned: BTreeMap<InstanceId, Owned>,
    /// Machines that are stopped, by region: nobody's instances, still to be ended.
    pub(crate) leftovers: BTreeSet<(String, String)>,
    /// By region.
    pub(crate) prices: BTreeMap<String, Prices>,
    /// What does not work at the moment, by region.
    pub(crate) troubles: BTreeMap<String, String>,
    /// Regions that have not been listed yet.
    pub(crate) unlisted: BTreeSet<String>,
    /// Regions whose zones are not known yet.
    pub(crate) unplaced: BTreeSet<String>,
    /// Asked for before all regions were listed: the instance, and for how long it may stay.
    pub(crate) orders: BTreeMap<InstanceId, Duration>,
    pub(crate) stopping: bool,
    pub(crate) evictions: BTreeMap<PoolName, u32>,
    pub(crate) buried: BTreeMap<String, Instant>,
    /// What was told last, so that an offer is told of only when it changed.
    pub(crate) told: BTreeMap<PoolName, PoolSpec>,
    /// When the last list was told; absent before the first.
    pub(crate) listed_at: Option<Instant>,
    /// Unbounded so that no call waits for its reader. What can pile up is bounded all the same: a few events for each
    /// instance that the reader itself asked for, and a list and some prices now and then.
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) count: watch::Sender<usize>,
}

/// A machine of ours, or one that is being bought.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    /// Absent: its offer is not configured any more.
    pub(crate) offer: Option<PoolName>,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) market: Market,
    /// Absent while it is being bought.
    pub(crate) machine: Option<Bought>,
    /// When it was first heard of.
    entered: Instant,
    /// When it was bought, or last listed.
    pub(crate) seen: Instant,
    pub(crate) end: Option<End>,
    /// Since when it is paid for, if that was before it was heard of.
    pub(crate) since: Option<Timestamp>,
    /// What was told last.
    pub(crate) price: Option<Price>,
}

/// When it is to be ended, and what that is put down to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) cause: DownCause,
    pub(crate) at: Instant,
}

impl Owned {
    pub(crate) fn new(region: &str, zone: &str, market: Market, offer: Option<PoolName>) -> Self {
        let (region, zone, now) = (region.to_owned(), zone.to_owned(), Instant::now());
        Self {
            offer,
            region,
            zone,
            market,
            machine: None,
            entered: now,
            seen: now,
            end: None,
            since: None,
            price: None,
        }
    }

    /// Ends it after the time, or sooner if that was asked for before. The first cause stays.
    pub(crate) fn end(&mut self, cause: DownCause, after: Duration) {
        let at = Instant::now() + after;
        match &mut self.end {
            Some(end) => end.at = end.at.min(at),
            None => self.end = Some(End { cause, at }),
        }
    }

    pub(crate) fn is(&self, machine: &str) -> bool {
        self.machine.as_ref().is_some_and(|own| own.machine == machine)
    }
}

impl Books {
    pub(crate) fn new(
        pools: Vec<PoolConfig>,
        events: mpsc::UnboundedSender<Event>,
        count: watch::Sender<usize>,
    ) -> Self {
        let regions: BTreeSet<String> = pools.iter().flat_map(|pool| pool.regions.keys().cloned()).collect();
        Self {
            unlisted: regions.clone(),
            unplaced: regions,
            pools: pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect(),
            offers: BTreeMap::new(),
            owned: BTreeMap::new(),
            leftovers: BTreeSet::new(),
            prices: BTreeMap::new(),
            troubles: BTreeMap::new(),
            orders: BTreeMap::new(),
            stopping: false,
            evictions: BTreeMap::new(),
            buried: BTreeMap::new(),
            told: BTreeMap::new(),
            listed_at: None,
            events,
            count,
        }
    }

    /// Takes a machine that is bought, or found, into the books as this instance.
    pub(crate) fn enter(&mut self, instance: InstanceId, owned: Owned) {
        self.owned.insert(instance, owned);
        self.recount();
    }

    /// Takes one out that was never there.
    pub(crate) fn strike(&mut self, instance: &InstanceId) {
        self.owned.remove(instance);
        self.recount();
    }

    /// The instance is gone; `seen` is what it looks like.
    pub(crate) fn gone(&mut self, instance: &InstanceId, seen: DownCause) {
        let Some(owned) = self.owned.remove(instance) else { return };
        let cause = owned.end.map_or(seen, |end| end.cause);
        if let Some(bought) = owned.machine {
            tracing::info!(%instance, machine = %bought.machine, ?cause, "an instance has ended");
            self.buried.insert(bought.machine, Instant::now());
        }
        if let (DownCause::Evicted, Some(offer)) = (&cause, owned.offer) {
            *self.evictions.entry(offer).or_default() += 1;
        }
        self.tell(Event::InstanceDown { instance: instance.clone(), cause });
        self.recount();
    }

    /// Whether this machine was seen to end a while ago.
    pub(crate) fn is_buried(&mut self, machine: &str) -> bool {
        self.buried.retain(|_, since| since.elapsed() < BURIED_FOR);
        self.buried.contains_key(machine)
    }

    /// Ends an instance, or says that there is none.
    pub(crate) fn terminate(&mut self, instance: &InstanceId, grace: Duration) {
        if let Some(owned) = self.owned.get_mut(instance) {
            owned.end(DownCause::Terminated, grace);
        } else if self.listed_at.is_none() {
            self.orders.insert(instance.clone(), grace);
        } else {
            self.tell(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Vanished });
        }
    }

    /// Takes an instance, as EC2 would.
    pub(crate) fn evict(&mut self, instance: &InstanceId, notice: Duration) {
        let Some(owned) = self.owned.get_mut(instance) else { return };
        tracing::info!(%instance, notice_ms = notice.as_millis(), "a drill takes an instance");
        owned.end(DownCause::Evicted, notice);
        if !notice.is_zero() {
            let deadline = now().plus_ms(u64::try_from(notice.as_millis()).unwrap_or(u64::MAX));
            self.tell(Event::EvictionNotice { instance: instance.clone(), deadline });
        }
    }

    /// Sets how many machines an offer may hold. Those that are too many, the youngest first, are taken with its notice.
    pub(crate) fn limit(&mut self, name: &PoolName, capacity: u32) {
        let Some(offer) = self.offers.get_mut(name) else { return };
        offer.limit = capacity;
        let of_offer = self.owned.iter().filter(|(_, owned)| owned.offer.as_ref() == Some(name) && owned.end.is_none());
        let mut staying: Vec<(Instant, InstanceId)> =
            of_offer.map(|(instance, owned)| (owned.entered, instance.clone())).collect();
        staying.sort();
        for (_, instance) in staying.into_iter().skip(usize::try_from(capacity).unwrap_or(usize::MAX)) {
            self.evict(&instance, NOTICE);
        }
        self.tell_offers();
    }

    /// Machines bought from an offer.
    pub(crate) fn held(&self, offer: &PoolName) -> u32 {
        count(self.owned.values().filter(|owned| owned.offer.as_ref() == Some(offer)))
    }

    /// How many more machines a pool may hold.
    pub(crate) fn free(&self, pool: &PoolConfig) -> u32 {
        let of_pool = |owned: &&Owned| {
            let offer = owned.offer.as_ref().and_then(|offer| self.offers.get(offer));
            offer.is_some_and(|offer| offer.pool == pool.name)
        };
        pool.max.saturating_sub(count(self.owned.values().filter(of_pool)))
    }

    /// Machines of an offer that are not leaving, and how many EC2 took since the coordinator started.
    pub(crate) fn use_of(&self, offer: &PoolName) -> (u32, u32) {
        let staying = |owned: &&Owned| owned.offer.as_ref() == Some(offer) && owned.end.is_none();
        (count(self.owned.values().filter(staying)), self.evictions.get(offer).copied().unwrap_or(0))
    }

    fn recount(&mut self) {
        self.tell_offers();
        // After that: who waits for the last to end finds its end told.
        self.count.send_replace(self.owned.len() + self.leftovers.len());
    }

    /// A stopped machine is to be ended, or has been.
    pub(crate) fn leave_over(&mut self, region: &str, machine: &str, there: bool) {
        let entry = (region.to_owned(), machine.to_owned());
        if there {
            self.leftovers.insert(entry);
        } else {
            self.leftovers.remove(&entry);
            self.buried.insert(machine.to_owned(), Instant::now());
        }
        self.recount();
    }
}

fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
