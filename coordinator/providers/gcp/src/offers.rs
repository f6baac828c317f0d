//! What can be bought: each zone of each pool, on each of its markets, is one offer.

use crate::pools::{PoolConfig, region};
use coordinator_core::{Market, Place, PoolName, PoolSpec, Price, ProviderName};

/// What a Spot VM is left between the notice and the end.
pub(crate) const NOTICE_MS: u64 = 30_000;

/// One zone of a pool, on one market.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Offer {
    /// `gcp/us-central1-a`, `gcp/us-central1-a/on-demand`.
    pub(crate) name: PoolName,
    /// The pool that it is of.
    pub(crate) pool: PoolName,
    pub(crate) zone: String,
    pub(crate) market: Market,
    pub(crate) price: Price,
    /// Set by hand, until the coordinator starts anew.
    pub(crate) limit: u32,
    /// VMs that were taken since the coordinator started.
    pub(crate) evictions: u32,
}

impl Offer {
    /// As the scheduler sees it. `held`: VMs that were bought from it; `free`: how many more its pool may hold.
    pub(crate) fn spec(&self, held: u32, free: u32) -> PoolSpec {
        PoolSpec {
            name: self.name.clone(),
            of: self.pool.clone(),
            place: Place {
                provider: ProviderName::from("gcp"),
                region: region(&self.zone).map(str::to_owned),
                zone: Some(self.zone.clone()),
            },
            market: self.market,
            price: Some(self.price),
            capacity: self.limit.min(held.saturating_add(free)),
            capacity_told: false,
            notice_ms: NOTICE_MS,
        }
    }
}

/// All offers of a pool.
pub(crate) fn of(pool: &PoolConfig) -> Vec<Offer> {
    let spot = pool.spot_usd_per_hour.map(|usd| (Market::Spot, usd));
    let on_demand = pool.on_demand.then_some((Market::OnDemand, pool.on_demand_usd_per_hour));
    let offer = |zone: &String, (market, usd_per_hour)| Offer {
        name: PoolName(match market {
            Market::OnDemand => format!("{}/{zone}/on-demand", pool.name),
            Market::Spot | Market::Own => format!("{}/{zone}", pool.name),
        }),
        pool: pool.name.clone(),
        zone: zone.clone(),
        market,
        price: Price { usd_per_hour, on_demand_usd_per_hour: pool.on_demand_usd_per_hour },
        limit: pool.max,
        evictions: 0,
    };
    spot.into_iter()
        .chain(on_demand)
        .flat_map(|market| pool.zones.iter().map(move |zone| offer(zone, market)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pool() -> PoolConfig {
        PoolConfig {
            name: PoolName::from("gcp"),
            project: "p".to_owned(),
            zones: vec!["us-central1-a".to_owned(), "us-east1-b".to_owned()],
            machine_type: "g2-standard-8".to_owned(),
            instance_template: "t".to_owned(),
            max: 4,
            spot_usd_per_hour: Some(0.3),
            on_demand: true,
            on_demand_usd_per_hour: 0.9,
            endpoint: None,
        }
    }

    #[test]
    fn a_zone_and_a_market_make_an_offer() {
        let offers = of(&pool());
        let told: Vec<_> = offers.iter().map(|offer| (offer.name.0.as_str(), offer.price.usd_per_hour)).collect();
        let expected = [
            ("gcp/us-central1-a", 0.3),
            ("gcp/us-east1-b", 0.3),
            ("gcp/us-central1-a/on-demand", 0.9),
            ("gcp/us-east1-b/on-demand", 0.9),
        ];
        assert_eq!(told, expected);
        let spec = offers[1].spec(0, 4);
        assert_eq!(spec.place.region.as_deref(), Some("us-east1"));
        assert_eq!(of(&PoolConfig { spot_usd_per_hour: None, ..pool() }).len(), 2);
    }

    #[test]
    fn capacity_is_what_it_holds_and_what_its_pool_has_left() {
        let mut offer = of(&pool()).remove(0);
        assert_eq!(offer.spec(1, 2).capacity, 3);
        offer.limit = 2;
        assert_eq!(offer.spec(1, 2).capacity, 2);
    }
}
