//! The books: which VMs run, from which offer, and what was told of them. One lock guards them, so what is told comes in
//! the order in which it happened.

use crate::api::{Account, Vm};
use crate::offers::Offer;
use crate::pools::PoolConfig;
use coordinator_core::{
    DownCause, Event, InstanceId, LaunchError, Machine, PoolName, PoolSpec, ProviderName, Timestamp,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) struct Books {
    pools: BTreeMap<PoolName, PoolConfig>,
    offers: BTreeMap<PoolName, Offer>,
    held: BTreeMap<InstanceId, Held>,
    /// When those ended that a list which began before may still have.
    ended: BTreeMap<InstanceId, Instant>,
    /// What was told last, so that an offer is told of only when it changed.
    told: BTreeMap<PoolName, PoolSpec>,
    /// The API has answered; before that nothing is told.
    pub(crate) listed: bool,
    pub(crate) stopping: bool,
    /// Why the API can't be read now, in words.
    pub(crate) trouble: Option<String>,
    events: mpsc::UnboundedSender<Event>,
    /// How many VMs there are.
    count: watch::Sender<usize>,
}

/// A VM that has not ended, or one that is being made.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) at: Place,
    /// Its pool may not be configured any more.
    pub(crate) offer: Option<PoolName>,
    pub(crate) machine_type: String,
    /// Since when it is paid for, once the API has said so.
    pub(crate) started: Option<Timestamp>,
    pub(crate) stage: Stage,
    /// Set by the first who ended it; what its end is put down to.
    pub(crate) ending: Option<DownCause>,
    /// When it is deleted, once somebody is to do that.
    pub(crate) delete_at: Option<Instant>,
    /// In this stage.
    pub(crate) since: Instant,
}

/// How far a VM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Asked for; whether it is there is not known.
    Buying,
    /// It is there.
    Up,
}

/// Where a VM is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) account: Account,
    pub(crate) zone: String,
    pub(crate) name: String,
}

impl Books {
    pub(crate) fn new(pools: &[PoolConfig], events: mpsc::UnboundedSender<Event>, count: watch::Sender<usize>) -> Self {
        let offers = pools.iter().flat_map(crate::offers::of).map(|offer| (offer.name.clone(), offer)).collect();
        let pools = pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
        Self {
            pools,
            offers,
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            told: BTreeMap::new(),
            listed: false,
            stopping: false,
            trouble: None,
            events,
            count,
        }
    }

    pub(crate) fn offers(&self) -> &BTreeMap<PoolName, Offer> {
        &self.offers
    }

    pub(crate) fn held(&self) -> &BTreeMap<InstanceId, Held> {
        &self.held
    }

    pub(crate) fn get_mut(&mut self, instance: &InstanceId) -> Option<&mut Held> {
        self.held.get_mut(instance)
    }

    pub(crate) fn pool_of(&self, offer: &Offer) -> Option<&PoolConfig> {
        self.pools.get(&offer.pool)
    }

    /// The offer that a listed VM was bought from.
    pub(crate) fn offer_of(&self, vm: &Vm) -> Option<PoolName> {
        let fits = |offer: &&Offer| {
            offer.zone == vm.zone && offer.market == vm.market && crate::labels::is_of(&offer.pool, &vm.labels)
        };
        self.offers.values().find(fits).map(|offer| offer.name.clone())
    }

    /// VMs from the offer that are not leaving.
    pub(crate) fn in_use(&self, offer: &PoolName) -> u32 {
        let of_offer = |held: &&Held| held.offer.as_ref() == Some(offer) && held.ending.is_none();
        count(self.held.values().filter(of_offer))
    }

    /// The offer as the scheduler sees it.
    pub(crate) fn spec(&self, offer: &Offer) -> PoolSpec {
        let from = |pool: Option<&PoolName>| pool.and_then(|name| self.offers.get(name)).map(|offer| &offer.pool);
        let of_pool = count(self.held.values().filter(|held| from(held.offer.as_ref()) == Some(&offer.pool)));
        let of_offer = count(self.held.values().filter(|held| held.offer.as_ref() == Some(&offer.name)));
        let max = self.pools.get(&offer.pool).map_or(0, |pool| pool.max);
        offer.spec(of_offer, max.saturating_sub(of_pool))
    }

    pub(crate) fn limit(&mut self, offer: &PoolName, limit: u32) {
        if let Some(offer) = self.offers.get_mut(offer) {
            offer.limit = limit;
        }
    }

    /// What it costs there, and what was got.
    pub(crate) fn machine(&self, held: &Held) -> Option<Machine> {
        let offer = self.offers.get(held.offer.as_ref()?)?;
        let Place { zone, name, .. } = &held.at;
        let (id, instance_type) = (format!("{zone}/{name}"), held.machine_type.clone());
        Some(Machine { id, instance_type, price: offer.price, since: held.started })
    }

    pub(crate) fn enter(&mut self, instance: InstanceId, held: Held) {
        self.held.insert(instance, held);
        self.changed();
    }

    /// It is there now.
    pub(crate) fn up(&mut self, instance: &InstanceId) {
        let Some(held) = self.held.get_mut(instance) else { return };
        if held.stage == Stage::Buying {
            held.stage = Stage::Up;
            // A list that began before this may not have it yet.
            held.since = Instant::now();
        }
        let machine = self.held.get(instance).and_then(|held| self.machine(held));
        self.tell(Event::InstanceUp { instance: instance.clone(), pid: None, machine });
    }

    /// It could not be made.
    pub(crate) fn failed(&mut self, instance: &InstanceId, error: LaunchError) {
        if self.held.remove(instance).is_some() {
            tracing::info!(%instance, "can't launch: {}", error.message);
            self.tell(Event::LaunchFailed { instance: instance.clone(), error });
            self.changed();
        }
    }

    /// It is gone for good; `seen` is why, unless somebody ended it on purpose. Told once.
    pub(crate) fn down(&mut self, instance: &InstanceId, seen: DownCause) {
        let Some(held) = self.held.remove(instance) else { return };
        if seen == DownCause::Evicted && held.ending.is_none() {
            self.count_eviction(held.offer.as_ref());
        }
        self.ended.insert(instance.clone(), Instant::now());
        let cause = held.ending.unwrap_or(seen);
        tracing::info!(%instance, vm = held.at.name, ?cause, "a VM is gone");
        self.tell(Event::InstanceDown { instance: instance.clone(), cause });
        self.changed();
    }

    /// Its pool takes it, and says so before. The first who ends it has said why.
    pub(crate) fn notice(&mut self, instance: &InstanceId, notice: Duration) {
        let Some(held) = self.held.get_mut(instance).filter(|held| held.ending.is_none()) else { return };
        held.ending = Some(DownCause::Evicted);
        let offer = held.offer.clone();
        self.count_eviction(offer.as_ref());
        if !notice.is_zero() {
            let deadline = now().plus_ms(u64::try_from(notice.as_millis()).unwrap_or(u64::MAX));
            tracing::info!(%instance, notice_ms = notice.as_millis(), "the pool takes a VM");
            self.tell(Event::EvictionNotice { instance: instance.clone(), deadline });
        }
        self.changed();
    }

    /// Whether it has ended since then.
    pub(crate) fn ended_since(&self, instance: &InstanceId, began: Instant) -> bool {
        self.ended.get(instance).is_some_and(|ended| *ended >= began)
    }

    /// No list that began before is still to come.
    pub(crate) fn forget_ended(&mut self, began: Instant) {
        self.ended.retain(|_, ended| *ended >= began);
    }

    fn count_eviction(&mut self, offer: Option<&PoolName>) {
        if let Some(offer) = offer.and_then(|name| self.offers.get_mut(name)) {
            offer.evictions += 1;
        }
    }

    /// What runs, once the API has told.
    pub(crate) fn tell_list(&mut self) {
        let first = !std::mem::replace(&mut self.listed, true);
        let up = self.held.iter().filter(|(_, held)| held.stage == Stage::Up);
        let instances: Vec<(InstanceId, Option<u32>)> = up.map(|(instance, _)| (instance.clone(), None)).collect();
        if first {
            self.tell_pools();
        }
        self.tell(Event::InstancesListed { provider: ProviderName::from("gcp"), instances: instances.clone() });
        if first {
            // What they cost; the coordinator may have stopped before it heard.
            for (instance, _) in instances {
                self.up(&instance);
            }
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more when the coordinator is stopping.
        let _ = self.events.send(event);
    }

    /// After every change of what is held, or may be.
    pub(crate) fn changed(&mut self) {
        self.count.send_replace(self.held.len());
        if self.listed {
            self.tell_pools();
        }
    }

    fn tell_pools(&mut self) {
        let specs: Vec<PoolSpec> = self.offers.values().map(|offer| self.spec(offer)).collect();
        for pool in specs {
            if self.told.insert(pool.name.clone(), pool.clone()).as_ref() != Some(&pool) {
                self.tell(Event::PoolChanged { pool });
            }
        }
    }
}

fn count<'h>(held: impl Iterator<Item = &'h Held>) -> u32 {
    u32::try_from(held.count()).unwrap_or(u32::MAX)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
