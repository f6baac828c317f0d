//! A table `[pools.NAME]` with `kind = "gcp"`.

use crate::api::Account;
use coordinator_core::PoolName;
use coordinator_provider::table::Table;

/// A pool of VMs of one machine type.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// Its name, as jobs list it.
    pub name: PoolName,
    /// Who pays.
    pub project: String,
    /// Where, such as `us-central1-a`.
    pub zones: Vec<String>,
    /// Such as `g2-standard-8`.
    pub machine_type: String,
    /// Image, disk, network, service account: `projects/P/global/instanceTemplates/NAME`, or a regional one's path.
    pub instance_template: String,
    /// The most VMs at a time, over all zones and both markets.
    pub max: u32,
    /// Spot VMs may be bought, at this price: the API tells none.
    pub spot_usd_per_hour: Option<f64>,
    /// On-demand VMs may be bought, where a job's policy asks for them.
    pub on_demand: bool,
    /// What one costs on demand.
    pub on_demand_usd_per_hour: f64,
    /// Another address of the API, of plain HTTP, to which no credentials are shown.
    pub endpoint: Option<String>,
}

impl PoolConfig {
    /// Whom to ask, and who pays.
    pub(crate) fn account(&self) -> Account {
        Account { endpoint: self.endpoint.clone(), project: self.project.clone() }
    }
}

const MAX_HIGHEST: u32 = 1000;

/// Reads one table; its `kind` was read before. `None`: something is wrong with it, and noted there.
pub fn parse(table: &mut Table<'_>) -> Option<PoolConfig> {
    let name = PoolName::from(table.name());
    let limits = format!("a count from 1 to {MAX_HIGHEST}: the most instances at a time");
    table.require("max", &limits);
    let max = table.count("max", 1..=MAX_HIGHEST);
    let mut required = |key, expected| {
        table.require(key, expected);
        table.text(key, expected)
    };
    let project = required("project", "the id of a project");
    let machine_type = required("machine_type", "a machine type such as \"g2-standard-8\"");
    let template = required("instance_template", "the name or the path of an instance template");
    let zones = zones(table);
    let spot = table.boolean("spot").unwrap_or(true);
    let on_demand = table.boolean("on_demand").unwrap_or(false);
    if !spot && !on_demand {
        table.problem("on_demand", "expected spot or on_demand to be true, found neither", None);
    }
    if spot {
        table.require("usd_per_hour", "what a Spot VM costs: US dollars an hour, which the API doesn't tell");
    }
    let usd_per_hour = table.usd_per_hour("usd_per_hour");
    table.require("on_demand_usd_per_hour", "US dollars an hour");
    let on_demand_usd_per_hour = table.usd_per_hour("on_demand_usd_per_hour");
    let endpoint = table.text("endpoint", "an address such as \"http://127.0.0.1:8080\"");
    if endpoint.as_deref().is_some_and(|endpoint| !endpoint.starts_with("http://")) {
        table.wrong("endpoint", "an address of plain HTTP such as \"http://127.0.0.1:8080\"");
    }
    table.finish()?;
    let project = project?;
    Some(PoolConfig {
        name,
        zones,
        machine_type: machine_type?,
        instance_template: path_of(&template?, &project),
        max: max?,
        spot_usd_per_hour: usd_per_hour.filter(|_| spot),
        on_demand,
        on_demand_usd_per_hour: on_demand_usd_per_hour?,
        endpoint,
        project,
    })
}

fn zones(table: &mut Table<'_>) -> Vec<String> {
    let example = "a list of zones such as [\"us-central1-a\"]";
    table.require("zones", example);
    let zones = table.texts("zones", example).unwrap_or_default();
    if table.has("zones") && table.is_sound() && zones.is_empty() {
        table.wrong("zones", "at least one zone");
    }
    for (at, zone) in zones.iter().enumerate() {
        if region(zone).is_none() {
            table.problem("zones", &format!("expected zones such as us-central1-a, found {zone}"), None);
        }
        if zones[..at].contains(zone) {
            table.problem("zones", &format!("expected each zone once, found {zone} again"), None);
        }
    }
    zones
}

/// The region of a zone; `None`: it is no zone.
pub(crate) fn region(zone: &str) -> Option<&str> {
    let (region, letter) = zone.rsplit_once('-')?;
    let sound = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let parts: Vec<&str> = region.split('-').collect();
    (parts.len() >= 2 && parts.iter().all(|part| sound(part)) && sound(letter)).then_some(region)
}

fn path_of(template: &str, project: &str) -> String {
    let template = template.trim_start_matches("https://www.googleapis.com/compute/v1/");
    if template.contains('/') {
        template.to_owned()
    } else {
        format!("projects/{project}/global/instanceTemplates/{template}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_provider::table::{self, Problems};
    use std::path::Path;

    const WHOLE: &str = r#"
        [pools.gcp]
        project = "my-project"
        zones = ["us-central1-a", "us-central1-b"]
        machine_type = "g2-standard-8"
        instance_template = "trainctl-worker"
        max = 16
        on_demand = true
        usd_per_hour = 0.29
        on_demand_usd_per_hour = 0.85
    "#;

    fn read(text: &str) -> Result<Vec<PoolConfig>, Problems> {
        table::read(text, "pools.toml", Path::new(""), |root| {
            root.entries("pools").iter_mut().filter_map(parse).collect()
        })
    }

    #[test]
    fn a_whole_table() {
        let pools = read(WHOLE).expect("sound");
        let [pool] = &pools[..] else { panic!("one pool: {pools:?}") };
        assert_eq!((pool.name.0.as_str(), pool.max, pool.on_demand), ("gcp", 16, true));
        assert_eq!(pool.zones, ["us-central1-a", "us-central1-b"]);
        assert_eq!(pool.instance_template, "projects/my-project/global/instanceTemplates/trainctl-worker");
        assert_eq!((pool.spot_usd_per_hour, pool.on_demand_usd_per_hour), (Some(0.29), 0.85));
        let regional = "projects/p/regions/r1/instanceTemplates/t";
        let pools = read(&WHOLE.replace("trainctl-worker", regional).replace("max = 16", "max = 1\nspot = false"));
        let pools = pools.expect("sound");
        assert_eq!((pools[0].instance_template.as_str(), pools[0].spot_usd_per_hour), (regional, None));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = r#"
[pools.gcp]
project = "p"
zones = ["us-central1-a", "us-central1", "us-central1-a"]
instance_template = "t"
max = 0
zone = "a"
on_demand_usd_per_hour = -1
endpoint = "https://example.com"
"#;
        let errors = read(text).expect_err("wrong").to_string();
        for part in [
            "pools.gcp.max: expected a count from 1 to 1000, found 0",
            "pools.gcp.machine_type: expected a machine type such as \"g2-standard-8\", found nothing",
            "expected zones such as us-central1-a, found us-central1",
            "expected each zone once, found us-central1-a again",
            "pools.gcp.usd_per_hour: expected what a Spot VM costs",
            "on_demand_usd_per_hour: expected US dollars an hour, 0 or more, found -1",
            "endpoint: expected an address of plain HTTP",
            "found the unknown key zone",
        ] {
            assert!(errors.contains(part), "{part}\n{errors}");
        }
    }

    #[test]
    fn a_zone_tells_its_region() {
        for (zone, expected) in [
            ("us-central1-a", Some("us-central1")),
            ("northamerica-northeast1-b", Some("northamerica-northeast1")),
            ("us-central1-", None),
            ("", None),
            ("Us-central1-a", None),
        ] {
            assert_eq!(region(zone), expected, "{zone}");
        }
    }
}
