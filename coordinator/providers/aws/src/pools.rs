//! A table `[pools.NAME]` with `kind = "aws"`.

use crate::api::Template;
use coordinator_core::PoolName;
use coordinator_provider::table::Table;
use std::collections::{BTreeMap, BTreeSet};

/// A pool of EC2 instances.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// Its name, as jobs list it.
    pub name: PoolName,
    /// The most instances at a time, over all places and both markets.
    pub max: u32,
    /// Spot instances may be bought.
    pub spot: bool,
    /// On-demand instances may be bought, where a job's policy asks for them.
    pub on_demand: bool,
    /// What may be bought.
    pub types: Vec<TypeConfig>,
    /// Where, by region.
    pub regions: BTreeMap<String, RegionConfig>,
}

/// A type of instance.
#[derive(Clone, PartialEq, Debug)]
pub struct TypeConfig {
    /// Such as `g5.xlarge`.
    pub name: String,
    /// How fast it trains, in any unit that all types of the pool share.
    pub speed: f64,
    /// EC2 itself tells spot prices only.
    pub on_demand_usd_per_hour: f64,
}

/// Where in a region, and from which template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionConfig {
    /// `subnet-...`; each is in one zone.
    pub subnets: Vec<String>,
    /// Image, role, security groups, disk.
    pub template: Template,
}

impl PoolConfig {
    /// What the type costs on demand; 0 for one that is not configured any more.
    #[must_use]
    pub fn on_demand_usd_per_hour(&self, instance_type: &str) -> f64 {
        self.types.iter().find(|known| known.name == instance_type).map_or(0.0, |known| known.on_demand_usd_per_hour)
    }
}

const MAX_HIGHEST: u32 = 1000;

/// Reads one table; its `kind` was read before. `None`: something is wrong with it, and noted there.
pub fn parse(table: &mut Table<'_>) -> Option<PoolConfig> {
    let name = PoolName::from(table.name());
    let limits = format!("a count from 1 to {MAX_HIGHEST}: the most instances at a time");
    table.require("max", &limits);
    let max = table.count("max", 1..=MAX_HIGHEST);
    let spot = table.boolean("spot").unwrap_or(true);
    let on_demand = table.boolean("on_demand").unwrap_or(false);
    if !spot && !on_demand {
        table.problem("on_demand", "expected spot or on_demand to be true, found neither", None);
    }
    table.require("launch_template", "the id or the name of a launch template");
    let template = table.text("launch_template", "the id or the name of a launch template");
    let version = version_of(table).unwrap_or_else(|| "$Default".to_owned());
    let types = types(table);
    let regions = regions(table, template.as_deref(), &version);
    table.finish()?;
    Some(PoolConfig { name, max: max?, spot, on_demand, types, regions })
}

/// Each launch adds a version of its own for a while, so the latest is not the user's.
fn version_of(table: &mut Table<'_>) -> Option<String> {
    let expected = "a version's number such as \"3\", or \"$Default\"";
    let version = table.text("launch_template_version", expected)?;
    let holds = version == "$Default" || (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()));
    if !holds {
        table.wrong("launch_template_version", expected);
    }
    holds.then_some(version)
}

fn types(table: &mut Table<'_>) -> Vec<TypeConfig> {
    let example = "a list such as [{ name = \"g5.xlarge\", on_demand_usd_per_hour = 1.006 }]";
    table.require("instance_types", example);
    let mut types: Vec<TypeConfig> = Vec::new();
    for mut entry in table.tables("instance_types") {
        entry.require("name", "a type such as \"g5.xlarge\"");
        entry.require("on_demand_usd_per_hour", "US dollars an hour");
        let name = entry.text("name", "a type such as \"g5.xlarge\"");
        let price = entry.usd_per_hour("on_demand_usd_per_hour");
        let speed = entry.number("speed", "a number above 0", |speed| speed > 0.0).unwrap_or(1.0);
        if let Some(name) = &name
            && types.iter().any(|known| known.name == *name)
        {
            entry.problem("name", &format!("expected each type once, found {name} again"), None);
        }
        if let (Some(()), Some(name), Some(on_demand_usd_per_hour)) = (entry.finish(), name, price) {
            types.push(TypeConfig { name, speed, on_demand_usd_per_hour });
        }
    }
    if types.is_empty() && table.is_sound() {
        table.wrong("instance_types", example);
    }
    types
}

fn regions(table: &mut Table<'_>, template: Option<&str>, version: &str) -> BTreeMap<String, RegionConfig> {
    let example = "tables [pools.NAME.regions.REGION] with subnets";
    table.require("regions", example);
    let mut regions = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for mut entry in table.entries("regions") {
        entry.require("subnets", "a list of subnets such as [\"subnet-0a1b2c3d\"]");
        let subnets = entry.texts("subnets", "a list of subnets such as [\"subnet-0a1b2c3d\"]").unwrap_or_default();
        for subnet in &subnets {
            if !seen.insert(subnet.clone()) {
                entry.problem("subnets", &format!("expected each subnet once, found {subnet} again"), None);
            }
        }
        if subnets.is_empty() && entry.is_sound() {
            entry.wrong("subnets", "at least one subnet");
        }
        let own = entry.text("launch_template", "the id or the name of a launch template");
        let own_version = version_of(&mut entry);
        let name = entry.name().to_owned();
        if entry.finish().is_none() {
            continue;
        }
        let Some(template) = own.or_else(|| template.map(str::to_owned)) else { continue };
        let template = Template { name: template, version: own_version.unwrap_or_else(|| version.to_owned()) };
        regions.insert(name, RegionConfig { subnets, template });
    }
    if regions.is_empty() && table.is_sound() {
        table.wrong("regions", example);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_provider::table::{self, Problems};
    use std::path::Path;

    const WHOLE: &str = r#"
        [pools.aws]
        max = 16
        on_demand = true
        launch_template = "trainctl-worker"
        instance_types = [
            { name = "g5.xlarge", on_demand_usd_per_hour = 1.006 },
            { name = "g6.xlarge", on_demand_usd_per_hour = 0.8048, speed = 0.9 },
        ]
        [pools.aws.regions.us-east-1]
        subnets = ["subnet-1", "subnet-2"]
        [pools.aws.regions.eu-west-1]
        subnets = ["subnet-3"]
        launch_template = "lt-0abc"
        launch_template_version = "7"
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
        assert_eq!((pool.name.0.as_str(), pool.max, pool.spot, pool.on_demand), ("aws", 16, true, true));
        assert_eq!(pool.types[0].speed, 1.0);
        assert_eq!(pool.types[1].speed, 0.9);
        assert_eq!(pool.on_demand_usd_per_hour("g6.xlarge"), 0.8048);
        let east = &pool.regions["us-east-1"];
        assert_eq!(east.template, Template { name: "trainctl-worker".to_owned(), version: "$Default".to_owned() });
        let west = &pool.regions["eu-west-1"];
        assert_eq!(west.template, Template { name: "lt-0abc".to_owned(), version: "7".to_owned() });
        assert!(west.template.is_id() && !east.template.is_id());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = r#"
[pools.aws]
max = 0
spot = false
launch_template = "t"
instance_types = [{ name = "g5.xlarge" }]
zone = "a"
launch_template_version = "$Latest"
[pools.aws.regions.us-east-1]
subnets = ["subnet-1", "subnet-1"]
"#;
        let errors = read(text).expect_err("wrong").to_string();
        for part in [
            "pools.aws.max: expected a count from 1 to 1000, found 0",
            "expected spot or on_demand to be true, found neither",
            "on_demand_usd_per_hour: expected US dollars an hour, found nothing",
            "found the unknown key zone",
            "launch_template_version: expected a version's number such as \"3\", or \"$Default\", found \"$Latest\"",
            "expected each subnet once, found subnet-1 again",
        ] {
            assert!(errors.contains(part), "{part}\n{errors}");
        }
    }

    #[test]
    fn nothing_to_buy_or_nowhere_is_an_error() {
        for (without, found) in [
            ("instance_types = []\n[pools.aws.regions.r]\nsubnets = ['s']", "instance_types"),
            ("instance_types = [{ name = 't', on_demand_usd_per_hour = 1 }]\n[pools.aws.regions]", "regions"),
            (
                "instance_types = [{ name = 't', on_demand_usd_per_hour = 1 }]\n[pools.aws.regions.r]\nsubnets = []",
                "subnets",
            ),
        ] {
            let text = format!("[pools.aws]\nmax = 1\nlaunch_template = 't'\n{without}");
            let errors = read(&text).expect_err("nothing").to_string();
            assert!(errors.contains(found), "{errors}");
        }
    }
}
