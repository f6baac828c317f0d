//! Priced offers in zones of two clouds: a zone that takes all at once, quotas, prices, clouds that do not answer, and
//! deadlines.

use crate::cloud::Outage;
use crate::faults::Faults;
use crate::setup::{Ended, job, pool};
use crate::world::{Happening, World};
use coordinator_core::{LaunchErrorKind, Market, Place, PoolName, PoolSpec, Price, ProviderName, Scope, Settings};
use std::collections::BTreeSet;
use trainctl_jobs::{JobSpec, OnDemandSpec};

const MINUTE: u64 = 60_000;

fn offer(name: &str, market: Market, usd_per_hour: f64, capacity: u32) -> PoolSpec {
    let (of, zone) = name.split_once('/').expect("a pool and a zone");
    let place = Place {
        provider: ProviderName::from(of),
        region: Some("here".to_owned()),
        zone: Some(zone.trim_end_matches("/on-demand").to_owned()),
    };
    let price = Some(Price { usd_per_hour, on_demand_usd_per_hour: 1.0 });
    PoolSpec { name: PoolName::from(name), of: PoolName::from(of), place, market, price, ..pool(name, capacity) }
}

/// Three zones of one cloud, one of another, and both on demand.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, Settings::default());
    for (name, usd_per_hour) in [("aws/a", 0.30), ("aws/b", 0.31), ("aws/c", 0.32), ("gcp/x", 0.45)] {
        world.announce(offer(name, Market::Spot, usd_per_hour, 4));
    }
    for name in ["aws/a/on-demand", "gcp/x/on-demand"] {
        world.announce(offer(name, Market::OnDemand, 1.0, 8));
    }
    world
}

fn spec(steps: u64, deadline: Option<&str>) -> JobSpec {
    let mut spec = job("alpha", steps, (2, 6), &["aws", "gcp"]);
    spec.policy.deadline = deadline.map(str::to_owned);
    spec.policy.on_demand = if deadline.is_some() { OnDemandSpec::ToMeetDeadline } else { OnDemandSpec::Never };
    spec
}

fn outage(world: &mut World, pools: &'static str, minutes: u64, kind: LaunchErrorKind, scope: Scope) {
    let until = world.now + (minutes * MINUTE) as i64;
    world.cloud.outages.push(Outage { pools, until, kind, scope });
}

fn lines(ended: &Ended, with: &str) -> usize {
    ended.decisions.lines().filter(|line| line.contains(with)).count()
}

#[test]
fn a_zone_that_takes_all_at_once_takes_a_part_of_the_job_only() {
    for seed in 1..=20 {
        let mut world = world(seed);
        world.submit(spec(6_000, None));
        for (minute, pool) in [(2, "aws/a"), (4, "aws/b"), (6, "aws/c")] {
            world.after(minute * MINUTE, Happening::Reclaim { pool, back_ms: MINUTE });
        }
        let ended = world.run_to_the_end(3_600_000);
        ended.expect_succeeded(seed);
        assert!(
            ended.jobs[0].evictions >= 4,
            "seed {seed}: {} evictions\n{}",
            ended.jobs[0].evictions,
            ended.decisions
        );
        assert!(!ended.kinds.contains("recover"), "seed {seed}: all were in one zone\n{}", ended.decisions);
        assert_eq!(lines(&ended, "/on-demand"), 0, "seed {seed}: spot only\n{}", ended.decisions);
    }
}

#[test]
fn quotas_and_prices_send_the_job_elsewhere() {
    for seed in 1..=20 {
        let mut world = world(seed);
        outage(&mut world, "aws/a", 3, LaunchErrorKind::Price, Scope::Zone);
        outage(&mut world, "aws/b", 3, LaunchErrorKind::Quota, Scope::Region);
        world.submit(spec(3_000, None));
        let ended = world.run_to_the_end(3_600_000);
        ended.expect_succeeded(seed);
        assert!(lines(&ended, "from gcp/x") >= 2, "seed {seed}\n{}", ended.decisions);
        assert!(lines(&ended, "leave spot in here of aws alone until") >= 1, "seed {seed}\n{}", ended.decisions);
    }
}

#[test]
fn both_clouds_may_be_down_for_ten_minutes() {
    for seed in 1..=20 {
        let mut world = world(seed);
        world.submit(spec(12_000, None));
        world.after(2 * MINUTE, Happening::Outage { pools: "", minutes: 10 });
        // One zone goes while nothing can be bought: the others train on.
        world.after(3 * MINUTE, Happening::Reclaim { pool: "aws/a", back_ms: MINUTE });
        let ended = world.run_to_the_end(2 * 3_600_000);
        ended.expect_succeeded(seed);
        assert!(!ended.kinds.contains("recover"), "seed {seed}\n{}", ended.decisions);
        assert!(lines(&ended, "leave all of") >= 2, "seed {seed}\n{}", ended.decisions);
        let tried = lines(&ended, "start w");
        assert!(tried < 80, "seed {seed}: it was asked {tried} times");
    }
}

#[test]
fn a_deadline_is_met_on_demand_when_spot_goes_for_good() {
    for seed in 1..=20 {
        let mut world = world(seed);
        // Twenty minutes' work in forty-five, and after two there is no spot for half an hour.
        world.submit(spec(12_000, Some("45 min")));
        for pool in ["aws/a", "aws/b", "aws/c", "gcp/x"] {
            world.after(2 * MINUTE, Happening::Reclaim { pool, back_ms: 60 * MINUTE });
        }
        let start = world.now;
        let ended = world.run_to_the_end(2 * 3_600_000);
        ended.expect_succeeded(seed);
        let took = ended.jobs[0].ended.expect("an end").0 - start;
        assert!(took <= 45 * MINUTE as i64, "seed {seed}: {} s\n{}", took / 1_000, ended.decisions);
        assert!(ended.kinds.contains("hurry"), "seed {seed}\n{}", ended.decisions);
        assert!(took > 30 * MINUTE as i64, "seed {seed}: it could have waited longer\n{}", ended.decisions);
    }
}

/// Faults of every kind, with restarts: every job ends, and nothing is left behind, whatever was bought where.
#[test]
fn jobs_of_all_policies_end_after_any_faults() {
    let mut reached = BTreeSet::new();
    for seed in 1..=60 {
        let mut world = world(seed);
        world.submit(spec(400, Some("3 min")));
        let mut always = job("beta", 150, (2, 3), &["gcp", "aws"]);
        always.policy.on_demand = OnDemandSpec::Always;
        always.policy.priority = 1;
        world.submit(always);
        let mut queued = job("gamma", 60, (1, 8), &["aws"]);
        queued.policy.queue = Some("night".to_owned());
        world.submit(queued);
        world.after(MINUTE / 2, Happening::Reclaim { pool: "aws/a", back_ms: MINUTE });
        let faults = if seed % 2 == 0 { Faults::all(seed) } else { Faults::all(seed).with_restarts() };
        world.unleash(faults);
        let ended = world.run_to_the_end(2 * 3_600_000);
        ended.expect_ended(seed);
        reached.extend(ended.kinds);
    }
    for kind in ["hurry", "relax", "back_off", "launch", "drain"] {
        assert!(reached.contains(kind), "no run came to {kind}");
    }
}
