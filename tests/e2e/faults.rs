//! Deaths at every phase of a step, at random steps, of joiners and donors, of everyone at once; and departures with
//! notice. The result never changes.

use crate::{digest, mixed, options, undisturbed};
use rustix::process::Signal;
use serde_json::Value;
use trainctl_tests::{Cluster, Job, eventually, kill, processes_of};

/// Runs the usual job with workers that die as `fail_at` says, and returns its last status.
fn run_with(name: &str, fail_at: &str, change: impl FnOnce(&mut Job)) -> Value {
    run_in(&Cluster::up(options(&[("TRAINCTL_FAIL_AT", fail_at)])), name, fail_at, change)
}

/// The same on a cluster whose workers hear of it.
pub(crate) fn run_in(cluster: &Cluster, name: &str, fail_at: &str, change: impl FnOnce(&mut Job)) -> Value {
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    change(&mut job);
    cluster.submit(&job.toml());
    let status = cluster.wait_for_success(name);
    assert_eq!(digest(&status), undisturbed(job.steps), "{fail_at}\n{}", cluster.report(name));
    let report = cluster.report(name);
    let deaths = report.matches("dies as TRAINCTL_FAIL_AT").count();
    assert_eq!(deaths, fail_at.split_terminator(',').count(), "who died at {fail_at}? {status:#}\n{report}");
    assert_eq!(status["evictions"].as_u64(), Some(deaths as u64), "{status:#}\n{report}");
    status
}

#[test]
fn death_at_every_phase_of_a_step() {
    for phase in ["compute", "reduce", "gather", "apply", "evaluate"] {
        let status = run_with(&format!("at-{phase}"), &format!("w2@25:{phase}"), |job| job.workers = (3, 3));
        assert!(status["steps_repeated"].as_u64() <= Some(1), "{phase}: {status:#}");
    }
}

#[test]
fn death_while_a_checkpoint_is_written() {
    let _ = run_with("at-checkpoint", "w2@20:checkpoint", |job| job.workers = (3, 3));
}

#[test]
fn death_at_a_rendezvous() {
    // w2's death makes the others meet; w3 dies there.
    let _ = run_with("at-rendezvous", "w2@15:reduce,w3@10:rendezvous", |job| job.workers = (3, 3));
}

#[test]
fn death_of_a_joiner_that_has_the_state() {
    // w2 dies; of its replacements, w4 dies while it follows.
    let _ = run_with("at-fetch", "w2@15:reduce,w4@0:fetch-state", |job| {
        job.workers = (2, 3);
        job.steps = 500;
    });
}

#[test]
fn death_of_the_donor_while_it_gives_the_state() {
    let _ = run_with("at-serve", "w3@15:reduce,w1@10:serve-state", |job| {
        job.workers = (2, 3);
        job.steps = 500;
    });
}

#[test]
fn several_deaths_in_one_run() {
    let _ = run_with("several", "w1@5:gather,w2@11:reduce,w3@23:compute,w5@31:apply", |job| {
        job.workers = (1, 4);
        job.steps = 500;
    });
}

#[test]
fn all_workers_killed_at_once_resume_from_the_newest_checkpoint() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("all-dead", &cluster.folder().join("runs"));
    job.workers = (2, 3);
    cluster.submit(&job.toml());
    let _ = cluster
        .wait_for("all-dead", "past a checkpoint", |s| s["checkpoints"].as_array().is_some_and(|c| !c.is_empty()));
    for pid in cluster.worker_pids("all-dead") {
        kill(pid, Signal::KILL);
    }
    let status = cluster.wait_for_success("all-dead");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("all-dead"));
    assert!(status["steps_repeated"].as_u64() <= Some(40), "{status:#}");
}

#[test]
fn a_departure_with_notice_repeats_no_step() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("noticed", &cluster.folder().join("runs"));
    job.workers = (2, 3);
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("noticed", 10);
    let worker = cluster.workers("noticed")[0]["worker"].as_str().unwrap_or_default().to_owned();
    let _ = cluster.json(&["worker", "evict", &worker, "--notice", "5"]);
    let status = cluster.wait_for_success("noticed");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("noticed"));
    assert_eq!((&status["steps_repeated"], &status["evictions"]), (&0.into(), &1.into()), "{status:#}");
}

#[test]
fn one_that_leaves_keeps_the_state_until_the_others_train_without_it() {
    // Of two, w1 is to leave, and w2 dies before it has done a step alone.
    let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", "w2@0:rendezvous")]));
    let mut job = Job::convnet("called-back", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = 500;
    job.checkpoint = "every = \"1000 steps\"".to_owned();
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("called-back", 10);
    let _ = cluster.json(&["worker", "evict", "w1", "--notice", "10"]);
    let status = cluster.wait_for_success("called-back");
    let report = cluster.report("called-back");
    assert_eq!(digest(&status), undisturbed(500), "{report}");
    assert_eq!(status["evictions"], 2, "{status:#}\n{report}");
    assert!(status["steps_repeated"].as_u64() <= Some(1), "{status:#}\n{report}");
}

#[test]
fn a_frozen_worker_is_given_up_after_missed_heartbeats() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("frozen", &cluster.folder().join("runs"));
    job.workers = (2, 3);
    job.steps = 300;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("frozen", 10);
    let frozen = cluster.worker_pids("frozen")[1];
    kill(frozen, Signal::STOP);
    let status = cluster.wait_for_success("frozen");
    assert_eq!(digest(&status), undisturbed(300), "{}", cluster.report("frozen"));
    assert!(status["steps_repeated"].as_u64() <= Some(1), "{status:#}");
    // Eight heartbeats of 250 ms, and what it takes to notice and regroup.
    assert!(status["longest_pause_ms"].as_f64() < Some(10_000.0), "{status:#}");
    assert!(!processes_of(&cluster.home()).contains(&frozen), "the frozen worker is left behind");
}

#[test]
fn notice_for_the_last_worker_saves_before_it_goes() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("last-one", &cluster.folder().join("runs"));
    job.workers = (1, 1);
    job.checkpoint = "every = \"1000 steps\"".to_owned();
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("last-one", 10);
    let worker = cluster.workers("last-one")[0]["worker"].as_str().unwrap_or_default().to_owned();
    let _ = cluster.json(&["worker", "evict", &worker, "--notice", "5"]);
    let status = cluster.wait_for_success("last-one");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("last-one"));
    assert_eq!(status["steps_repeated"], 0, "{status:#}");
}

#[test]
fn random_kills_over_twenty_seeds() {
    // A linear congruential generator is enough to spread kills; its constants are Knuth's.
    let mut random = 20_261_124_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let phases = ["compute", "reduce", "gather", "apply"];
    let cluster_of = |fail_at: &str| Cluster::up(options(&[("TRAINCTL_FAIL_AT", fail_at)]));
    for seed in 0..20 {
        let kills: Vec<String> =
            (0..1 + next(4)).map(|_| format!("w{}@{}:{}", 1 + next(6), next(150), phases[next(4) as usize])).collect();
        let fail_at = kills.join(",");
        let cluster = cluster_of(&fail_at);
        let name = format!("seed-{seed}");
        let mut job = Job::convnet(&name, &cluster.folder().join("runs"));
        job.workers = (1, 4);
        job.steps = 150;
        cluster.submit(&job.toml());
        let status = cluster.wait_for_success(&name);
        assert_eq!(digest(&status), undisturbed(job.steps), "seed {seed}: {fail_at}\n{}", cluster.report(&name));
    }
}

#[test]
fn workers_of_other_numerics_are_refused() {
    let cluster = mixed();
    let mut job = Job::convnet("mixed", &cluster.folder().join("runs"));
    job.workers = (1, 2);
    job.steps = 300;
    cluster.submit(&job.toml());
    let explained = eventually("the stranger is refused", std::time::Duration::from_secs(60), || {
        let text = String::from_utf8(cluster.command(&["explain", "mixed"]).output().ok()?.stdout).ok()?;
        text.contains("numerics").then_some(text)
    });
    assert!(explained.contains("w2"), "{explained}");
    let _ = cluster.wait_for_success("mixed");
}
