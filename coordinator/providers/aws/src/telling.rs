//! What the scheduler is told: which instances there are, what can be bought, and for how much.

use crate::books::{Books, Owned};
use crate::offers::{self, Prices};
use coordinator_core::{Event, InstanceId, Machine, PoolName, PoolSpec, Price, ProviderName};
use std::time::Duration;
use tokio::time::Instant;

impl Books {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more when the coordinator is stopping.
        let _ = self.events.send(event);
    }

    /// Tells of an instance that it is there, and what it costs.
    pub(crate) fn tell_up(&mut self, instance: &InstanceId) {
        let Some(owned) = self.owned.get(instance) else { return };
        let Some(bought) = owned.machine.clone() else { return };
        let (price, since) = (self.price_of(owned, &bought.instance_type), owned.since);
        let machine = Machine { id: bought.machine, instance_type: bought.instance_type, price, since };
        if let Some(owned) = self.owned.get_mut(instance) {
            owned.price = Some(price);
        }
        self.tell(Event::InstanceUp { instance: instance.clone(), pid: None, machine: Some(machine) });
    }

    /// Tells which instances there are, if each region has been listed, and it is time or `now` is wanted. The first
    /// time also what they are, what can be bought, and does what was asked for meanwhile.
    pub(crate) fn tell_list(&mut self, every: Duration, now: bool) {
        let first = self.listed_at.is_none();
        let due = now || self.listed_at.is_none_or(|at| at.elapsed() >= every);
        if !self.unlisted.is_empty() || !due {
            return;
        }
        self.listed_at = Some(Instant::now());
        let there = self.owned.iter().filter(|(_, owned)| owned.machine.is_some());
        let instances: Vec<_> = there.map(|(instance, _)| (instance.clone(), None)).collect();
        let found: Vec<InstanceId> = instances.iter().map(|(instance, _)| instance.clone()).collect();
        self.tell(Event::InstancesListed { provider: ProviderName::from("aws"), instances });
        if first {
            for instance in &found {
                self.tell_up(instance);
            }
            self.tell_offers();
            for (instance, grace) in std::mem::take(&mut self.orders) {
                self.terminate(&instance, grace);
            }
        }
    }

    /// Tells of each offer that differs from what was told of it.
    pub(crate) fn tell_offers(&mut self) {
        if self.listed_at.is_none() {
            return;
        }
        for name in self.offers.keys().cloned().collect::<Vec<_>>() {
            let Some(pool) = self.spec(&name) else { continue };
            if self.told.insert(name, pool.clone()).as_ref() != Some(&pool) {
                self.tell(Event::PoolChanged { pool });
            }
        }
    }

    /// An offer as the scheduler sees it.
    pub(crate) fn spec(&self, name: &PoolName) -> Option<PoolSpec> {
        let offer = self.offers.get(name)?;
        let pool = self.pools.get(&offer.pool)?;
        let none = Prices::new();
        let prices = self.prices.get(&offer.region).unwrap_or(&none);
        Some(offer.spec(pool, prices, self.held(name), self.free(pool)))
    }

    /// New spot prices of a region.
    pub(crate) fn price(&mut self, region: &str, prices: Prices) {
        self.prices.insert(region.to_owned(), prices);
        let mut moved = Vec::new();
        for (instance, owned) in &self.owned {
            let (Some(bought), Some(told)) = (&owned.machine, owned.price) else { continue };
            let price = self.price_of(owned, &bought.instance_type);
            if price != told {
                moved.push((instance.clone(), price));
            }
        }
        for (instance, price) in moved {
            if let Some(owned) = self.owned.get_mut(&instance) {
                owned.price = Some(price);
            }
            self.tell(Event::PriceMoved { instance, price });
        }
        self.tell_offers();
    }

    fn price_of(&self, owned: &Owned, instance_type: &str) -> Price {
        let none = Prices::new();
        let prices = self.prices.get(&owned.region).unwrap_or(&none);
        let offer = owned.offer.as_ref().and_then(|offer| self.offers.get(offer));
        match offer.and_then(|offer| self.pools.get(&offer.pool)) {
            Some(pool) => offers::price_of(pool, &owned.zone, owned.market, instance_type, prices),
            None => Price { usd_per_hour: 0.0, on_demand_usd_per_hour: 0.0 },
        }
    }
}
