//! What a job costs, with real processes on pools that have prices: it adds up to the millisecond over an eviction and a
//! killed coordinator, and a budget is not passed.

use crate::{digest, undisturbed};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use trainctl_tests::{Cluster, Job, Options, eventually};

const SPOT_USD_PER_HOUR: f64 = 36.0;

fn cluster() -> Cluster {
    let pools = format!(
        "[costs]\ncoordinator_usd_per_hour = 0.9\nstorage_usd_per_gb_month = 0.023\n\
         [pools.local-spot]\nkind = \"local\"\nspot = true\ncapacity = 8\nnotice = \"5s\"\n\
         capacity_returns_after = \"100ms\"\nusd_per_hour = {SPOT_USD_PER_HOUR}\non_demand_usd_per_hour = 108.0\n\
         region = \"here\"\nzone = \"here-a\"\n"
    );
    Cluster::up(Options { pools, environment: Vec::new() })
}

fn usd(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected dollars, found {value}"))
}

fn ms(time: &Value) -> u64 {
    let text = time.as_str().unwrap_or_else(|| panic!("expected a time, found {time}"));
    let time = humantime::parse_rfc3339(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(0)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.max(1.0), "expected {expected}, found {found}");
}

/// Every instance that the job had, once all of them are gone.
fn settled(cluster: &Cluster, job: &str) -> Value {
    eventually("all instances have ended", Duration::from_secs(60), || {
        let cost = cluster.json(&["cost", job]);
        list(&cost["instances"]).iter().all(|one| !one["end"].is_null()).then_some(cost)
    })
}

#[test]
fn the_ledger_adds_up_over_an_eviction_and_a_killed_coordinator() {
    let mut cluster = cluster();
    let mut job = Job::convnet("priced", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = 400;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("priced", 20);
    let worker = cluster.workers("priced")[0]["worker"].as_str().unwrap_or_default().to_owned();
    let _ = cluster.json(&["worker", "evict", &worker, "--notice", "5"]);
    eventually("the replacement is paid for", Duration::from_secs(60), || {
        (list(&cluster.json(&["cost", "priced"])["instances"]).len() == 3).then_some(())
    });
    cluster.kill_coordinator();
    cluster.start();
    let status = cluster.wait_for_success("priced");
    assert_eq!(digest(&status), undisturbed(400), "{}", cluster.report("priced"));

    let cost = settled(&cluster, "priced");
    let (total, instances) = (&cost["total"], list(&cost["instances"]));
    assert_eq!(instances.len(), 3, "{cost:#}");
    let (mut paid, mut time) = (0.0, 0);
    for one in instances {
        let periods = list(&one["periods"]);
        let length = |period: &Value| ms(&period["to"]) - ms(&period["from"]);
        let milliseconds: u64 = periods.iter().map(length).sum();
        assert_eq!(milliseconds, ms(&one["end"]) - ms(&one["start"]), "{one:#}");
        assert_eq!(one["ms"], milliseconds, "{one:#}");
        let of_periods = periods.iter().map(|period| length(period) as f64 * usd(&period["usd_per_hour"]) / 3.6e6);
        near(usd(&one["paid_usd"]), of_periods.sum());
        near(usd(&one["on_demand_usd"]), 3.0 * usd(&one["paid_usd"]));
        assert_eq!((&one["zone"], &one["market"]), (&"here-a".into(), &"spot".into()));
        paid += usd(&one["paid_usd"]);
        time += milliseconds;
    }
    near(usd(&total["instances_usd"]), paid);
    near(paid, time as f64 * SPOT_USD_PER_HOUR / 3.6e6);
    near(usd(&total["saved_usd"]), 2.0 * paid);
    let beside = usd(&total["coordinator_usd"]) + usd(&total["storage_usd"]);
    assert!(usd(&total["coordinator_usd"]) > 0.0 && usd(&total["storage_usd"]) > 0.0, "{cost:#}");
    near(usd(&total["paid_usd"]), paid + beside);
    near(usd(&total["usd_per_step"]), usd(&total["paid_usd"]) / 400.0);
    assert_eq!(total["evictions"], 1, "{cost:#}");
    assert!(usd(&total["joining_usd"]) > 0.0 && instances[2]["replaces"] == true, "{cost:#}");

    let shown = cluster.show("priced").expect("a coordinator");
    near(usd(&shown["cost"]["paid_usd"]), usd(&total["paid_usd"]));
    let text = String::from_utf8(cluster.command(&["show", "priced"]).output().unwrap().stdout).unwrap();
    assert!(text.contains("on demand, saved"), "{text}");
}

#[test]
fn a_budget_stops_the_job_before_it_is_passed_and_a_larger_one_goes_on() {
    let cluster = cluster();
    let mut job = Job::convnet("budgeted", &cluster.folder().join("runs"));
    job.workers = (1, 1);
    job.steps = 2_000;
    // Saving and leaving can take 130 s: 1.30 for the worker. What is left lasts for about four seconds.
    let budget_usd = 1.38;
    let with = |usd: f64| format!("{}[policy]\nbudget_usd = {usd}\n", job.toml());
    cluster.submit(&with(budget_usd));
    let failed = cluster.wait_for("budgeted", "ended", |s| !s["ended"].is_null());
    assert_eq!(failed["state"], "failed", "{failed:#}\n{}", cluster.report("budgeted"));
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("its budget of $1.38 covers no more"), "{reason}");
    assert!(reason.contains("\nhint: raise policy.budget_usd"), "{reason}");
    let stopped_at = failed["step"].as_u64().unwrap_or(0);
    assert!(stopped_at > 0 && stopped_at < job.steps, "{failed:#}");
    let newest = list(&failed["checkpoints"]).last().map(|checkpoint| checkpoint["step"].clone());
    assert_eq!(newest, Some(stopped_at.into()), "it did not save before it left: {failed:#}");
    let cost = settled(&cluster, "budgeted");
    assert!(usd(&cost["total"]["paid_usd"]) <= budget_usd, "{cost:#}");

    let again = cluster.run(&["submit", &cluster.folder().join("job.toml").to_string_lossy()]);
    assert!(!again.status.success(), "the same budget was taken twice");
    cluster.submit(&with(1_000.0));
    let status = cluster.wait_for_success("budgeted");
    assert_eq!(digest(&status), undisturbed(job.steps), "{}", cluster.report("budgeted"));
    assert_eq!(status["steps_repeated"], 0, "{status:#}");
    let explained = cluster.json(&["explain", "budgeted"]);
    let kinds: Vec<&str> = list(&explained["decisions"]).iter().filter_map(|one| one["kind"].as_str()).collect();
    for kind in ["keep_budget", "fail", "raise_budget", "succeed"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let all = settled(&cluster, "budgeted");
    assert!(usd(&all["total"]["paid_usd"]) > usd(&cost["total"]["paid_usd"]), "{all:#}");
}
