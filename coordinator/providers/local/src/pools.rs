//! The pools of local processes: what a table `[pools.NAME]` with `kind = "local"` may say.

use crate::trace::{Trace, TraceError};
use coordinator_core::{Market, PoolName, Price};
use coordinator_provider::table::Table;
use std::path::PathBuf;
use std::time::Duration;

/// A pool of local processes.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// Its name, as jobs list it.
    pub name: PoolName,
    /// On which terms its instances are had.
    pub market: Market,
    /// What one costs, so that the ledger of a cloud can be seen here; absent: nothing.
    pub price: Option<Price>,
    /// Where it is said to be.
    pub region: Option<String>,
    /// Where in the region it is said to be.
    pub zone: Option<String>,
    /// The most instances that it holds.
    pub capacity: u32,
    /// Between SIGTERM and SIGKILL of an eviction.
    pub notice: Duration,
    /// How long a drill keeps the capacity after its instance has gone.
    pub capacity_returns_after: Duration,
    /// Replayed, it makes nodes come and go.
    pub trace: Option<TraceConfig>,
}

/// A trace to replay.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceConfig {
    /// The checked rows.
    pub trace: Trace,
    /// Seconds of the trace in one second.
    pub speed: f64,
}

const CAPACITY_MAX: u32 = 1024;
const NOTICE_DEFAULT: Duration = Duration::from_secs(5);
const RETURNS_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// The pools without a file: `local-spot`, that takes instances with a notice, and `local`, that does not.
#[must_use]
pub fn default_pools() -> Vec<PoolConfig> {
    ["local-spot", "local"]
        .into_iter()
        .map(|name| PoolConfig {
            name: PoolName::from(name),
            market: if name == "local-spot" { Market::Spot } else { Market::Own },
            price: None,
            region: None,
            zone: None,
            capacity: 8,
            notice: NOTICE_DEFAULT,
            capacity_returns_after: RETURNS_AFTER_DEFAULT,
            trace: None,
        })
        .collect()
}

/// One pool; its `kind` has been read. Paths of traces are relative to the file.
pub fn parse(table: &mut Table<'_>) -> Option<PoolConfig> {
    let market = market(table);
    let price = price(table);
    let region = table.text("region", "the name of a region");
    let zone = table.text("zone", "the name of a zone");
    table.require("capacity", "a count of instances");
    let capacity = table.count("capacity", 0..=CAPACITY_MAX);
    let notice = table.duration("notice").unwrap_or(NOTICE_DEFAULT);
    let capacity_returns_after = table.duration("capacity_returns_after").unwrap_or(RETURNS_AFTER_DEFAULT);
    let trace = trace(table);
    table.finish()?;
    let name = PoolName::from(table.name());
    Some(PoolConfig { name, market, price, region, zone, capacity: capacity?, notice, capacity_returns_after, trace })
}

fn market(table: &mut Table<'_>) -> Market {
    let spot = table.boolean("spot");
    let named = table.one_of("market", &["own", "spot", "on-demand"]);
    if spot.is_some() && table.has("market") {
        let hint = "spot = true is short for market = \"spot\", spot = false for market = \"own\"";
        table.problem("market", "expected it or spot, found both", Some(hint));
    }
    match (named.as_deref(), spot) {
        (Some("on-demand"), _) => Market::OnDemand,
        (Some("spot"), _) | (None, Some(true)) => Market::Spot,
        _ => Market::Own,
    }
}

/// On demand it costs the same, unless something else is said.
fn price(table: &mut Table<'_>) -> Option<Price> {
    let usd_per_hour = table.usd_per_hour("usd_per_hour");
    let on_demand = table.usd_per_hour("on_demand_usd_per_hour");
    if !table.has("usd_per_hour") && table.has("on_demand_usd_per_hour") {
        table.problem("on_demand_usd_per_hour", "expected usd_per_hour beside it, found none", None);
    }
    let usd_per_hour = usd_per_hour?;
    Some(Price { usd_per_hour, on_demand_usd_per_hour: on_demand.unwrap_or(usd_per_hour) })
}

fn trace(table: &mut Table<'_>) -> Option<TraceConfig> {
    let path = table.path("trace", "the path of a trace file");
    let speed = table.number("trace_speed", "a number above 0", |speed| speed > 0.0);
    if !table.has("trace") && table.has("trace_speed") {
        table.problem("trace_speed", "expected a trace beside it, found none", None);
    }
    match Trace::load(&path?) {
        Ok(trace) => Some(TraceConfig { trace, speed: speed.unwrap_or(1.0) }),
        Err(error) => {
            let found = match &error {
                TraceError::Read { source, .. } => format!("{error}, found: {source}"),
                TraceError::Row { .. } | TraceError::Empty { .. } => error.to_string(),
            };
            let hint = "rows are \"ms,add|remove,node\"; a relative path starts at the file of pools";
            table.problem("trace", &found, Some(hint));
            None
        }
    }
}

impl PoolConfig {
    /// In words, what makes this pool's capacity move; empty: nothing.
    #[must_use]
    pub fn note(&self) -> String {
        self.trace.as_ref().map_or_else(String::new, |replay| {
            let name = replay.trace.path.file_name().map_or_else(PathBuf::new, PathBuf::from);
            format!("replays {} at {}x", name.display(), replay.speed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_provider::table::{self, Problems};
    use std::path::Path;

    fn parse_at(base: &Path, text: &str) -> Result<Vec<PoolConfig>, Problems> {
        table::read(text, "pools.toml", base, |root| root.entries("pools").iter_mut().filter_map(parse).collect())
    }

    #[test]
    fn reads_every_key() {
        let folder = tempfile::tempdir().expect("temp folder");
        std::fs::write(folder.path().join("t.csv"), "0,add,node1\n").expect("write");
        let text = "[pools.a]\nspot = true\ncapacity = 3\nnotice = '30s'\n\
                    capacity_returns_after = '100ms'\ntrace = 't.csv'\ntrace_speed = 600\n\
                    [pools.b]\ncapacity = 0x10\n";
        let pools = parse_at(folder.path(), text).expect("good pools");
        assert_eq!(pools[0].name, PoolName::from("a"));
        assert_eq!((pools[0].market, pools[1].market), (Market::Spot, Market::Own));
        assert_eq!((pools[0].capacity, pools[1].capacity), (3, 16));
        assert_eq!(pools[0].notice, Duration::from_secs(30));
        assert_eq!(pools[0].capacity_returns_after, Duration::from_millis(100));
        assert_eq!(pools[0].note(), "replays t.csv at 600x");
        assert_eq!(pools[1].notice, NOTICE_DEFAULT);
    }

    #[test]
    fn tells_all_that_is_wrong_with_lines_and_hints() {
        let text = "[pools.a]\ncapcity = 3\nnotice = 5\n[pools.b]\ncapacity = -1\ntrace_speed = 2\n";
        let errors = parse_at(Path::new("/nowhere"), text).expect_err("bad pools").to_string();
        for expected in [
            "pools.toml:1:1: pools.a.capacity: expected a count of instances, found nothing",
            "pools.toml:2:1: expected spot, market, usd_per_hour, on_demand_usd_per_hour, region, zone, capacity, notice, \
             capacity_returns_after, trace, trace_speed, found the unknown key capcity\nhint: did you mean capacity?",
            "pools.toml:3:10: pools.a.notice: expected a time such as \"5s\", found 5",
            "pools.toml:5:12: pools.b.capacity: expected a count from 0 to 1024, found -1",
            "pools.toml:6:15: pools.b.trace_speed: expected a trace beside it, found none",
        ] {
            assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
        }
    }

    #[test]
    fn prices_and_places_are_those_of_a_cloud() {
        let text = "[pools.a]\nmarket = 'on-demand'\ncapacity = 1\nusd_per_hour = 2\nregion = 'eu'\nzone = 'eu-a'\n\
                    [pools.b]\nspot = true\ncapacity = 1\nusd_per_hour = 0.5\non_demand_usd_per_hour = 2.0\n";
        let pools = parse_at(Path::new(""), text).expect("good pools");
        let price = |usd_per_hour, on_demand_usd_per_hour| Some(Price { usd_per_hour, on_demand_usd_per_hour });
        assert_eq!((pools[0].market, pools[0].price), (Market::OnDemand, price(2.0, 2.0)));
        assert_eq!((pools[0].region.as_deref(), pools[0].zone.as_deref()), (Some("eu"), Some("eu-a")));
        assert_eq!((pools[1].market, pools[1].price), (Market::Spot, price(0.5, 2.0)));

        let text = "[pools.a]\nspot = true\nmarket = 'spot'\ncapacity = 1\non_demand_usd_per_hour = 2\n";
        let errors = parse_at(Path::new(""), text).expect_err("bad pools").to_string();
        for expected in [
            "pools.toml:3:10: pools.a.market: expected it or spot, found both\nhint: spot = true is short",
            "pools.toml:5:26: pools.a.on_demand_usd_per_hour: expected usd_per_hour beside it, found none",
        ] {
            assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
        }
    }

    #[test]
    fn a_missing_trace_is_named() {
        let text = "[pools.a]\ncapacity=1\ntrace='none.csv'";
        let text = parse_at(Path::new("/nowhere"), text).expect_err("no such trace").to_string();
        assert!(text.contains("pools.toml:3:7: pools.a.trace: trace /nowhere/none.csv: expected"), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }
}
