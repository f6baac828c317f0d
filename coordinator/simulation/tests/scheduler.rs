//! The real scheduler in markets of which one can say what it should come to.

use coordinator_simulation::{Conditions, Format, Market, Outcome, Presence, Trace, Workload, Zone, run_scheduler};
use std::path::PathBuf;

const MIN: u64 = 60_000;

/// Ten hours of ten second steps on four workers of eight logical shards.
fn job(policy: &str) -> trainctl_jobs::JobSpec {
    let zeros = "0".repeat(64);
    let text = format!(
        "name = \"job\"\n[data]\nmanifest = \"m.json\"\ndigest = \"blake3:{zeros}\"\n[model]\nkind = \"mlp\"\n\
         hidden = [8]\n[train]\nsteps = 3600\nglobal_batch = 64\nlogical_shards = 8\n[resources]\n\
         workers = {{ min = 1, max = 4 }}\n[policy]\n{policy}\n"
    );
    trainctl_jobs::parse(&text, "job.toml").expect("a job that holds")
}

/// Nodes by minutes from and until.
fn run(nodes: &[(u64, u64)], policy: &str) -> Outcome {
    let conditions = Conditions { start_ms: 3 * MIN, ..Conditions::default() };
    let workload = Workload::new(&job(policy), 10.0, 4, &conditions).expect("a workload");
    let nodes = nodes.iter().map(|(from, until)| Presence { from_ms: from * MIN, until_ms: until * MIN }).collect();
    let zones = vec![Zone { name: "z".to_owned(), nodes }];
    let trace = Trace { source: PathBuf::from("t"), format: Format::Counts, zones, length_ms: 10_000 * MIN };
    let horizon_ms = 5_000 * MIN;
    run_scheduler(&Market::window(&trace, 0, horizon_ms), &workload, &conditions, horizon_ms)
}

/// Within two minutes, or two minutes of all workers: steps are whole, and some are waited for.
fn near(found: f64, expected_min: f64, tolerance_min: f64) {
    let found_min = found * 60.0;
    assert!((found_min - expected_min).abs() <= tolerance_min, "expected {expected_min} min, found {found_min}");
}

fn finish_hours(outcome: &Outcome) -> f64 {
    outcome.finish_seconds.unwrap_or_else(|| panic!("{outcome:?}")) / 3_600.0
}

#[test]
fn undisturbed_it_takes_the_work_and_one_start() {
    let outcome = run(&[(0, 5_000); 6], "");
    near(finish_hours(&outcome), 603.0, 1.0);
    near(outcome.spot_hours, 4.0 * 603.0, 4.0);
    assert_eq!((outcome.on_demand_hours, outcome.evictions), (0.0, 0));
}

#[test]
fn with_half_of_its_workers_it_goes_at_half_its_pace() {
    let outcome = run(&[(0, 5_000); 2], "");
    near(finish_hours(&outcome), 1_203.0, 1.0);
    near(outcome.spot_hours, 2.0 * 1_203.0, 4.0);
}

#[test]
fn an_eviction_with_notice_costs_the_pace_of_one_until_another_has_started() {
    let outcome = run(&[(0, 303), (0, 5_000), (0, 5_000), (0, 5_000), (0, 5_000)], "");
    assert_eq!(outcome.evictions, 1);
    // Three of eight shards each take as long as three, not two: for three minutes it goes at two thirds.
    near(finish_hours(&outcome), 604.0, 1.5);
}

#[test]
fn when_all_are_taken_it_goes_on_from_what_they_saved() {
    let outcome =
        run(&[(0, 303), (0, 303), (0, 303), (0, 303), (400, 5_000), (400, 5_000), (400, 5_000), (400, 5_000)], "");
    assert_eq!(outcome.evictions, 4);
    // It trains up to the notice at 301, and again three minutes after 400, or after the scheduler asked again.
    near(finish_hours(&outcome), 403.0 + 302.0, 3.0);
}

#[test]
fn a_market_with_nothing_ends_a_spot_job_never() {
    let outcome = run(&[(0, 1)], "");
    assert_eq!(outcome.finish_seconds, None);
    assert_eq!(outcome.failure.as_deref(), Some("it was not done by the end of what was simulated"));
    assert!(outcome.spot_hours < 0.2, "{outcome:?}");
}

#[test]
fn a_budget_ends_it() {
    let outcome = run(&[(0, 5_000); 6], "budget_usd = 4.0");
    assert_eq!(outcome.finish_seconds, None);
    assert!(outcome.cost_usd <= 4.0, "{outcome:?}");
    assert!(outcome.failure.as_deref().is_some_and(|failure| failure.contains("budget")), "{outcome:?}");
}
