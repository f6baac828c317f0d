//! Workers that arrive while others train: one or several at once, from donors that stay or die on the way. The others
//! lose no step to them, and the result never changes.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use serde_json::Value;
use trainctl_tests::{Cluster, Job, eventually, kill};

const STEPS: u64 = 500;

/// A running job of so many workers, with a pool that has room for no more.
fn train(name: &str, workers: u32, most: u32, fail_at: &str) -> Cluster {
    let mut options = options(&[("TRAINCTL_FAIL_AT", fail_at)]);
    options.pools = options.pools.replace("capacity = 8", &format!("capacity = {workers}"));
    let cluster = Cluster::up(options);
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = (workers, most);
    job.steps = STEPS;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step(name, 10);
    cluster
}

fn grow(cluster: &Cluster, capacity: u32) {
    let _ = cluster.json(&["pool", "set", "local-spot", "--capacity", &capacity.to_string()]);
}

fn end(cluster: &Cluster, name: &str) -> (Value, String) {
    let status = cluster.wait_for_success(name);
    let report = cluster.report(name);
    assert_eq!(digest(&status), undisturbed(STEPS), "{report}");
    (status, report)
}

#[test]
fn two_joiners_at_once_take_the_state_from_all_members() {
    let cluster = train("two-joiners", 3, 5, "");
    grow(&cluster, 5);
    let _ = cluster.wait_for("two-joiners", "of five workers", |s| s["world_size"].as_u64() == Some(5));
    let (status, report) = end(&cluster, "two-joiners");
    assert_eq!((&status["steps_repeated"], &status["evictions"]), (&0.into(), &0.into()), "{status:#}");
    // Three members, or four if one joiner was much faster than the other.
    assert!(report.matches("donors=3").count() >= 3, "{report}");
    assert!(!report.contains("donors=1") && !report.contains("donors=2"), "{report}");
}

#[test]
fn donors_that_die_while_they_give_the_state() {
    // Two of three, at the same boundary.
    let cluster = train("donors-die", 3, 4, "w1@10:serve-state,w2@10:serve-state");
    grow(&cluster, 4);
    let (status, report) = end(&cluster, "donors-die");
    assert_eq!(report.matches("dies as TRAINCTL_FAIL_AT").count(), 2, "{report}");
    assert_eq!(status["evictions"], 2, "{status:#}\n{report}");
    // Both go with one step; the joiners that replace them cost none.
    assert!(status["steps_repeated"].as_u64() <= Some(1), "{status:#}\n{report}");
}

#[test]
fn a_joiner_that_dies_with_the_state_costs_the_others_nothing() {
    let cluster = train("joiner-dies", 2, 3, "w3@0:fetch-state");
    grow(&cluster, 3);
    let (status, report) = end(&cluster, "joiner-dies");
    assert_eq!(report.matches("dies as TRAINCTL_FAIL_AT").count(), 1, "{report}");
    assert_eq!(status["steps_repeated"], 0, "{status:#}\n{report}");
}

#[test]
fn a_joiner_killed_outright_while_it_joins() {
    let cluster = train("joiner-killed", 2, 3, "");
    grow(&cluster, 3);
    let pid = eventually("a third worker has a process", std::time::Duration::from_secs(60), || {
        let workers = cluster.workers("joiner-killed");
        let third = workers.iter().find(|w| w["worker"] == "w3")?;
        u32::try_from(third["pid"].as_u64()?).ok().filter(|pid| *pid > 0)
    });
    kill(pid, Signal::KILL);
    let (_, report) = end(&cluster, "joiner-killed");
    assert!(report.contains("w4"), "{report}");
}
