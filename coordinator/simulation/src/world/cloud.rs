//! The provider: offers from the market's zones, instances on its nodes, and what each costs.

use super::{EXIT_MS, Happening, POOL, PROVIDER, World};
use crate::market::{Market, NodeId};
use crate::setup::Conditions;
use crate::workload::Workload;
use crate::world::worker::VirtualWorker;
use coordinator_core::{
    DownCause, Event, InstanceId, LaunchError, LaunchErrorKind, Machine, Market as Terms, Place, PoolName, PoolSpec,
    Price, ProviderName, Scope, Timestamp, WorkerId,
};

/// What the provider needs from a request to its "no".
const REFUSAL_MS: u64 = 1_000;

/// What can be asked for.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) spec: PoolSpec,
    /// The market's zone; none: on demand, always there.
    zone: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) worker: WorkerId,
    node: Option<NodeId>,
    launched_ms: u64,
    price: Price,
    /// It will hear nothing more.
    ending: bool,
}

/// Each zone on spot and on demand. A pool's bound is the user's, not what the market has: room for all workers, and
/// for as many that take their places.
pub(super) fn offers(market: &Market, workload: &Workload, conditions: &Conditions) -> Vec<Offer> {
    let mut offers = Vec::new();
    let on_demand_usd_per_hour = conditions.prices.on_demand_usd_per_hour;
    for (at, zone) in market.zones().iter().enumerate() {
        let offer = |name: String, market, usd_per_hour, zone_of_market| Offer {
            spec: PoolSpec {
                name: PoolName(name),
                of: PoolName::from(POOL),
                place: Place {
                    provider: ProviderName::from(PROVIDER),
                    region: Some(POOL.to_owned()),
                    zone: Some(zone.clone()),
                },
                market,
                price: Some(Price { usd_per_hour, on_demand_usd_per_hour }),
                capacity: 2 * workload.workers,
                capacity_told: false,
                notice_ms: conditions.notice_ms,
            },
            zone: zone_of_market,
        };
        let name = format!("{POOL}/{zone}");
        offers.push(offer(name.clone(), Terms::Spot, conditions.prices.spot_usd_per_hour, Some(at)));
        offers.push(offer(format!("{name}/on-demand"), Terms::OnDemand, on_demand_usd_per_hour, None));
    }
    offers
}

impl World<'_> {
    /// A node that is to be taken within its notice is given to nobody any more.
    pub(super) fn launch(&mut self, instance: InstanceId, worker: WorkerId, pool: &PoolName) {
        let Some(offer) = self.offers.iter().find(|offer| offer.spec.name == *pool) else { return };
        let price = offer.spec.price.unwrap_or(Price { usd_per_hour: 0.0, on_demand_usd_per_hour: 0.0 });
        let (spot, notice_ms) = (offer.zone.is_some(), self.conditions.notice_ms);
        let node = offer.zone.and_then(|zone| self.fleet.take(Some(zone), self.now_ms, notice_ms));
        if spot && node.is_none() {
            let error = LaunchError {
                kind: LaunchErrorKind::NoCapacity,
                scope: Scope::Zone,
                message: "there is no spot capacity".to_owned(),
            };
            return self.after(REFUSAL_MS, Happening::Heard(Event::LaunchFailed { instance, error }));
        }
        if let Some(node) = node {
            let left_ms = self.market.until_ms(node) - self.now_ms;
            self.after(left_ms - notice_ms, Happening::Notice(instance.clone()));
            self.after(left_ms, Happening::Taken(instance.clone()));
        }
        let attach_ms = self.conditions.start_ms.saturating_sub(self.conditions.transfer_ms);
        self.after(attach_ms / 2, Happening::Up(instance.clone()));
        self.after(attach_ms, Happening::Attach(instance.clone()));
        self.instances.insert(instance, Instance { worker, node, launched_ms: self.now_ms, price, ending: false });
    }

    pub(super) fn up(&mut self, instance: &InstanceId) {
        let Some(entry) = self.instances.get(instance) else { return };
        let launched_ms = i64::try_from(entry.launched_ms).unwrap_or(0);
        let machine = Machine {
            id: instance.0.clone(),
            instance_type: "virtual".to_owned(),
            price: entry.price,
            since: Some(Timestamp(super::BEGIN_MS + launched_ms)),
        };
        self.tell(Event::InstanceUp { instance: instance.clone(), pid: None, machine: Some(machine) });
    }

    pub(super) fn attach(&mut self, instance: &InstanceId) {
        let Some(entry) = self.instances.get(instance).filter(|entry| !entry.ending) else { return };
        let worker = entry.worker.clone();
        self.workers.insert(worker.clone(), VirtualWorker::new(instance.clone()));
        self.tell(Event::WorkerAttached {
            worker: worker.clone(),
            instance: instance.clone(),
            pid: 1,
            address: format!("{instance}:1"),
            fingerprint: "virtual".to_owned(),
            fingerprint_detail: "virtual".to_owned(),
            holding: None,
        });
        self.after(self.conditions.heartbeat_ms, Happening::Heartbeat(worker));
    }

    pub(super) fn notice(&mut self, instance: &InstanceId) {
        let Some(entry) = self.instances.get(instance).filter(|entry| !entry.ending) else { return };
        let Some(node) = entry.node else { return };
        self.bill.evictions += 1;
        if self.conditions.notice_ms > 0 {
            let until_ms = i64::try_from(self.market.until_ms(node)).unwrap_or(i64::MAX);
            let deadline = Timestamp(super::BEGIN_MS.saturating_add(until_ms));
            self.tell(Event::EvictionNotice { instance: instance.clone(), deadline });
        }
    }

    pub(super) fn taken(&mut self, instance: &InstanceId) {
        self.gone(instance, DownCause::Evicted);
    }

    pub(super) fn terminate(&mut self, instance: &InstanceId) {
        match self.instances.get_mut(instance) {
            Some(entry) if entry.ending => {}
            Some(entry) => {
                entry.ending = true;
                self.after(EXIT_MS, Happening::Ended { instance: instance.clone(), status: None });
            }
            None => self.say(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Terminated }),
        }
    }

    /// The worker on it ends by itself.
    pub(super) fn leave(&mut self, worker: &WorkerId) {
        let Some(instance) = self.workers.get(worker).map(|worker| worker.instance.clone()) else { return };
        if let Some(entry) = self.instances.get_mut(&instance)
            && !entry.ending
        {
            entry.ending = true;
            self.after(EXIT_MS, Happening::Ended { instance, status: Some(0) });
        }
    }

    pub(super) fn ended(&mut self, instance: &InstanceId, status: Option<i32>) {
        self.gone(instance, status.map_or(DownCause::Terminated, DownCause::Exited));
    }

    fn gone(&mut self, instance: &InstanceId, cause: DownCause) {
        let Some(entry) = self.instances.remove(instance) else { return };
        self.pay(&entry);
        if let Some(node) = entry.node {
            self.fleet.release(node);
        }
        self.workers.remove(&entry.worker);
        self.lose(&entry.worker);
        self.tell(Event::InstanceDown { instance: instance.clone(), cause });
    }

    fn pay(&mut self, instance: &Instance) {
        let ms = (self.now_ms - instance.launched_ms) as f64;
        match instance.node {
            Some(_) => self.bill.spot_ms += ms,
            None => self.bill.on_demand_ms += ms,
        }
    }

    /// What runs at the end of the job ends with it.
    pub(super) fn bill_the_rest(&mut self) {
        for instance in std::mem::take(&mut self.instances).into_values() {
            self.pay(&instance);
        }
    }
}
