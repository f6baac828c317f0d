//! What a table `[pools.NAME]` with `kind = "static"` may say.

use coordinator_core::{Market, Place, PoolName, PoolSpec, Price, ProviderName};
use coordinator_provider::table::Table;
use std::time::Duration;

const NOTICE_DEFAULT: Duration = Duration::from_secs(5);
/// The most machines of one pool.
pub(crate) const MACHINES_MAX: u32 = 4096;

/// A pool of own machines.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// Its name, as jobs list it.
    pub name: PoolName,
    /// Where the machines are; absent: in no cloud's region.
    pub region: Option<String>,
    /// What may fail together, such as a rack.
    pub zone: Option<String>,
    /// What one costs, in US dollars; 0: nothing that counts.
    pub usd_per_hour: f64,
    /// The most machines that are used at a time.
    pub max: u32,
    /// Between the warning and the end of a worker that a drill takes.
    pub notice: Duration,
}

/// One pool; its `kind` has been read.
pub fn parse(table: &mut Table<'_>) -> Option<PoolConfig> {
    let region = table.text("region", "the name of a region");
    let zone = table.text("zone", "the name of a zone");
    let usd_per_hour = table.usd_per_hour("usd_per_hour").unwrap_or(0.0);
    let max = table.count("max", 1..=MACHINES_MAX).unwrap_or(MACHINES_MAX);
    let notice = table.duration("notice").unwrap_or(NOTICE_DEFAULT);
    table.finish()?;
    Some(PoolConfig { name: PoolName::from(table.name()), region, zone, usd_per_hour, max, notice })
}

impl PoolConfig {
    /// As the scheduler sees it, with room for so many.
    pub(crate) fn spec(&self, capacity: u32) -> PoolSpec {
        let price = Price { usd_per_hour: self.usd_per_hour, on_demand_usd_per_hour: self.usd_per_hour };
        PoolSpec {
            name: self.name.clone(),
            of: self.name.clone(),
            place: Place {
                provider: ProviderName::from(crate::NAME),
                region: self.region.clone(),
                zone: self.zone.clone(),
            },
            market: Market::Own,
            price: (self.usd_per_hour > 0.0).then_some(price),
            capacity,
            capacity_told: true,
            notice_ms: u64::try_from(self.notice.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_provider::table;
    use std::path::Path;

    #[test]
    fn reads_every_key_and_tells_of_others() {
        let all = |root: &mut Table<'_>| root.entries("pools").iter_mut().filter_map(parse).collect::<Vec<_>>();
        let text =
            "[pools.lab]\nregion = 'eu'\nzone = 'rack 7'\nusd_per_hour = 0.5\nmax = 3\nnotice = '1s'\n[pools.b]\n";
        let pools = table::read(text, "pools.toml", Path::new(""), all).expect("good pools");
        let spec = pools[1].spec(2);
        assert_eq!(
            (spec.name.0.as_str(), spec.capacity, spec.price.map(|price| price.usd_per_hour)),
            ("lab", 2, Some(0.5))
        );
        assert_eq!((spec.place.region.as_deref(), spec.place.zone.as_deref()), (Some("eu"), Some("rack 7")));
        assert_eq!((pools[0].max, pools[0].spec(0).price), (MACHINES_MAX, None));
        let error =
            table::read("[pools.a]\ncapacity = 3\n", "pools.toml", Path::new(""), all).expect_err("no such key");
        assert!(error.to_string().contains("found the unknown key capacity"), "{error}");
    }
}
