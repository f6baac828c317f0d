//! What can be bought: each zone of each pool, on each of its markets, is one offer.

use crate::api::Subnet;
use crate::pools::PoolConfig;
use coordinator_core::{Market, Place, PoolName, PoolSpec, Price, ProviderName};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long before it takes a spot instance EC2 says so, at best.
pub(crate) const NOTICE: Duration = Duration::from_secs(120);

/// Spot prices of a region, by zone and type.
pub(crate) type Prices = BTreeMap<(String, String), f64>;

/// One zone of a pool, on one market.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Offer {
    /// `aws/us-east-1a`, `aws/us-east-1a/on-demand`.
    pub(crate) name: PoolName,
    /// The pool that it is of.
    pub(crate) pool: PoolName,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) market: Market,
    pub(crate) subnets: Vec<String>,
    /// Set by hand, until the coordinator starts anew.
    pub(crate) limit: u32,
}

impl Offer {
    /// As the scheduler sees it. `held`: machines that were bought from it; `free`: how many more its pool may hold.
    pub(crate) fn spec(&self, pool: &PoolConfig, prices: &Prices, held: u32, free: u32) -> PoolSpec {
        PoolSpec {
            name: self.name.clone(),
            of: self.pool.clone(),
            place: Place {
                provider: ProviderName::from("aws"),
                region: Some(self.region.clone()),
                zone: Some(self.zone.clone()),
            },
            market: self.market,
            price: best_price(pool, &self.zone, self.market, prices),
            capacity: self.limit.min(held.saturating_add(free)),
            capacity_told: false,
            notice_ms: u64::try_from(NOTICE.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The offers of a pool in one region, once it is known where its subnets are.
pub(crate) fn of_region(pool: &PoolConfig, region: &str, subnets: &[Subnet]) -> Vec<Offer> {
    let Some(config) = pool.regions.get(region) else { return Vec::new() };
    let mut zones: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for subnet in subnets.iter().filter(|subnet| config.subnets.contains(&subnet.id)) {
        zones.entry(&subnet.zone).or_default().push(subnet.id.clone());
    }
    let markets = [(pool.spot, Market::Spot), (pool.on_demand, Market::OnDemand)];
    let markets = markets.into_iter().filter_map(|(wanted, market)| wanted.then_some(market));
    markets
        .flat_map(|market| zones.iter().map(move |(zone, subnets)| (market, *zone, subnets)))
        .map(|(market, zone, subnets)| Offer {
            name: name(&pool.name, zone, market),
            pool: pool.name.clone(),
            region: region.to_owned(),
            zone: zone.to_owned(),
            market,
            subnets: subnets.clone(),
            limit: pool.max,
        })
        .collect()
}

fn name(pool: &PoolName, zone: &str, market: Market) -> PoolName {
    PoolName(match market {
        Market::OnDemand => format!("{pool}/{zone}/on-demand"),
        Market::Spot | Market::Own => format!("{pool}/{zone}"),
    })
}

/// The price of the type that gives most for its price there.
fn best_price(pool: &PoolConfig, zone: &str, market: Market, prices: &Prices) -> Option<Price> {
    let priced = pool.types.iter().map(|kind| (price_of(pool, zone, market, &kind.name, prices), kind.speed));
    let best = priced.min_by(|a, b| (a.0.usd_per_hour / a.1).total_cmp(&(b.0.usd_per_hour / b.1)));
    best.map(|(price, _)| price)
}

/// What a type costs in a zone: its full price, while the market's is not known.
pub(crate) fn price_of(pool: &PoolConfig, zone: &str, market: Market, instance_type: &str, prices: &Prices) -> Price {
    let on_demand_usd_per_hour = pool.on_demand_usd_per_hour(instance_type);
    let spot = prices.get(&(zone.to_owned(), instance_type.to_owned())).copied();
    let usd_per_hour = match market {
        Market::Spot => spot.unwrap_or(on_demand_usd_per_hour),
        Market::OnDemand | Market::Own => on_demand_usd_per_hour,
    };
    Price { usd_per_hour, on_demand_usd_per_hour }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::Template;
    use crate::pools::{RegionConfig, TypeConfig};

    pub(crate) fn pool() -> PoolConfig {
        let kind = |name: &str, speed, usd| TypeConfig { name: name.to_owned(), speed, on_demand_usd_per_hour: usd };
        let template = Template { name: "t".to_owned(), version: "$Default".to_owned() };
        let subnets = ["s1", "s2", "s3"].map(str::to_owned).into();
        PoolConfig {
            name: PoolName::from("aws"),
            max: 4,
            spot: true,
            on_demand: true,
            types: vec![kind("small", 1.0, 1.0), kind("big", 4.0, 3.0)],
            regions: BTreeMap::from([("us-east-1".to_owned(), RegionConfig { subnets, template })]),
        }
    }

    pub(crate) fn subnets() -> Vec<Subnet> {
        let subnet = |id: &str, zone: &str| Subnet { id: id.to_owned(), zone: zone.to_owned() };
        vec![subnet("s1", "us-east-1a"), subnet("s2", "us-east-1b"), subnet("s3", "us-east-1a"), subnet("other", "x")]
    }

    fn prices(of: &[(&str, &str, f64)]) -> Prices {
        of.iter().map(|(zone, kind, usd)| (((*zone).to_owned(), (*kind).to_owned()), *usd)).collect()
    }

    #[test]
    fn a_zone_and_a_market_make_an_offer() {
        let offers = of_region(&pool(), "us-east-1", &subnets());
        let names: Vec<&str> = offers.iter().map(|offer| offer.name.0.as_str()).collect();
        assert_eq!(names, ["aws/us-east-1a", "aws/us-east-1b", "aws/us-east-1a/on-demand", "aws/us-east-1b/on-demand"]);
        assert_eq!(offers[0].subnets, ["s1", "s3"]);
        assert_eq!(of_region(&pool(), "eu-west-1", &subnets()), []);
        let spot_only = PoolConfig { on_demand: false, ..pool() };
        assert_eq!(of_region(&spot_only, "us-east-1", &subnets()).len(), 2);
    }

    #[test]
    fn an_offer_costs_what_its_best_type_costs() {
        let offers = of_region(&pool(), "us-east-1", &subnets());
        let usd =
            |offer: &Offer, prices: &Prices| offer.spec(&pool(), prices, 0, 4).price.map(|price| price.usd_per_hour);
        // 0.3 for speed 1, 0.8 for speed 4.
        let known = prices(&[("us-east-1a", "small", 0.3), ("us-east-1a", "big", 0.8)]);
        assert_eq!(usd(&offers[0], &known), Some(0.8));
        let known = prices(&[("us-east-1a", "small", 0.1), ("us-east-1a", "big", 0.8)]);
        assert_eq!(usd(&offers[0], &known), Some(0.1));
        // Nothing known there: the full price.
        assert_eq!(usd(&offers[1], &known), Some(3.0));
        assert_eq!(usd(&offers[2], &known), Some(3.0));
    }

    #[test]
    fn capacity_is_what_it_holds_and_what_its_pool_has_left() {
        let mut offer = of_region(&pool(), "us-east-1", &subnets()).remove(0);
        assert_eq!(offer.spec(&pool(), &Prices::new(), 1, 2).capacity, 3);
        offer.limit = 2;
        assert_eq!(offer.spec(&pool(), &Prices::new(), 1, 2).capacity, 2);
    }
}
