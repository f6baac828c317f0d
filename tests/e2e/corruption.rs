//! A bit flips in one worker's memory: it is found, the steps since the last agreement are repeated, the worker is not
//! used any more, and the result is that of an undisturbed run.

use crate::{digest, options, undisturbed};
use serde_json::{Value, json};
use std::path::Path;
use trainctl_tests::{Cluster, Job};

const NAME: &str = "flipped";

/// Runs the usual job with these flips to its end, and tells what it came to and what the run's record says.
fn run(flips: &str, workers: (u32, u32), change: impl FnOnce(&mut Job)) -> (Cluster, Value, Value) {
    let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", flips)]));
    let root = cluster.folder().join("runs");
    let mut job = Job::convnet(NAME, &root);
    job.workers = workers;
    change(&mut job);
    cluster.submit(&job.toml());
    let status = cluster.wait_for_success(NAME);
    assert_eq!(digest(&status), undisturbed(job.steps), "{flips}\n{}", cluster.report(NAME));
    let record = record(&root);
    (cluster, status, record)
}

fn record(root: &Path) -> Value {
    let text = std::fs::read(root.join(NAME).join("run.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// One corruption at this step, blamed on this worker, with the steps since `back_to` repeated: so say the job's
/// status, its decisions, and the run's record.
fn is_told(
    cluster: &Cluster,
    status: &Value,
    record: &Value,
    subject: &str,
    (step, worker, back_to): (u64, &str, u64),
) {
    let report = || format!("{status:#}\n{record:#}\n{}", cluster.report(NAME));
    let told = &status["corruptions"];
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{}", report());
    let events = record["events"].as_array().expect("events");
    let events: Vec<&Value> = events.iter().filter(|event| event["kind"] == "corruption").collect();
    assert_eq!(events.len(), 1, "{}", report());
    for told in [&told[0], events[0]] {
        assert_eq!(told["step"], step, "{}", report());
        assert_eq!(told["subject"], subject, "{}", report());
        assert_eq!(told["quarantined"], json!([worker]), "{}", report());
        assert_eq!(
            (&told["back_to"], &told["steps_repeated"]),
            (&json!(back_to), &json!(step - back_to)),
            "{}",
            report()
        );
        let digests = told["digests"].as_object().unwrap();
        let mut right = digests.iter().filter(|(who, _)| *who != worker).map(|(_, digest)| digest);
        let first = right.next().unwrap();
        assert!(right.all(|digest| digest == first) && digests[worker] != *first, "{}", report());
    }
    let explained = cluster.json(&["explain", NAME]);
    let kinds: Vec<&str> =
        explained["decisions"].as_array().unwrap().iter().filter_map(|d| d["kind"].as_str()).collect();
    assert!(kinds.contains(&"roll_back"), "{}", report());
    let shown = cluster.command(&["show", NAME]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("different states at step {step}")), "{shown}");
    assert!(shown.contains(&format!("{worker} was wrong and is quarantined")), "{shown}");
}

/// The checkpoint to go back to where a save that was due at step 40 may have waited for the one of step 20.
fn newest_before_the_corruption(status: &Value) -> u64 {
    let found = status["corruptions"][0]["at"].as_str().unwrap();
    let checkpoints = status["checkpoints"].as_array().unwrap();
    let before = checkpoints.iter().filter(|one| one["committed"].as_str() <= Some(found));
    let newest = before.filter_map(|one| one["step"].as_u64()).max().unwrap_or(0);
    assert!(newest >= 20, "{status:#}");
    newest
}

#[test]
fn the_odd_one_of_three_is_found_at_once_and_replaced() {
    let (cluster, status, record) = run("w2@25:flip", (3, 3), |job| job.steps = 500);
    is_told(&cluster, &status, &record, "model", (25, "w2", 20));
    assert!(status["steps_repeated"].as_u64() >= Some(5), "{status:#}");
    assert_eq!(status["evictions"], 0, "{status:#}");
    // Three were wanted all the time.
    let attached = cluster.report(NAME).matches("keeps up with").count();
    assert!(attached >= 1, "{}", cluster.report(NAME));
}

#[test]
fn before_the_first_checkpoint_the_steps_from_the_first_state_on_are_repeated() {
    let (cluster, status, record) = run("w1@12:flip", (3, 3), |_| {});
    is_told(&cluster, &status, &record, "model", (12, "w1", 0));
}

#[test]
fn of_two_the_one_whose_state_a_repetition_does_not_give_is_found() {
    for wrong in ["w1", "w2"] {
        let (cluster, status, record) = run(&format!("{wrong}@25:flip"), (2, 2), |_| {});
        is_told(&cluster, &status, &record, "model", (25, wrong, 20));
        assert!(cluster.report(NAME).contains("held something else before"), "{}", cluster.report(NAME));
    }
}

#[test]
fn a_flip_before_the_last_step_does_not_reach_the_result() {
    for workers in [(2, 2), (3, 3)] {
        let (cluster, status, record) = run("w2@59:flip", workers, |_| {});
        let back_to = newest_before_the_corruption(&status);
        is_told(&cluster, &status, &record, "model", (59, "w2", back_to));
    }
}

#[test]
fn a_copy_that_differs_is_no_checkpoint_and_the_next_try_is() {
    let (cluster, status, record) = run("w3@40:flip-saved", (3, 3), |job| job.steps = 500);
    // That of step 40, or one that was due then and had to wait for the one before.
    let step = status["corruptions"][0]["step"].as_u64().unwrap();
    assert!(step >= 40, "{status:#}");
    let back_to = newest_before_the_corruption(&status);
    is_told(&cluster, &status, &record, "saved", (step, "w3", back_to));
    let checkpoints = status["checkpoints"].as_array().unwrap();
    let again = checkpoints.iter().filter(|one| one["step"] == step).count();
    assert_eq!(again, 1, "{status:#}");
}

#[test]
fn a_last_copy_that_differs_is_not_the_result() {
    for workers in [(2, 2), (3, 3)] {
        let (cluster, status, record) = run("w2@60:flip-saved", workers, |_| {});
        let back_to = newest_before_the_corruption(&status);
        is_told(&cluster, &status, &record, "saved", (60, "w2", back_to));
        assert!(status["longest_pause_ms"].as_f64() < Some(10_000.0), "the writers wait for each other: {status:#}");
    }
}

#[test]
fn the_coordinator_may_be_away_when_it_happens() {
    let mut cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", "w2@70:flip")]));
    let root = cluster.folder().join("runs");
    let mut job = Job::convnet(NAME, &root);
    job.workers = (3, 3);
    job.steps = 300;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step(NAME, 20);
    cluster.kill_coordinator();
    trainctl_tests::eventually("the workers find out", std::time::Duration::from_secs(60), || {
        cluster.report(NAME).contains("workers hold different states").then_some(())
    });
    cluster.start();
    let status = cluster.wait_for_success(NAME);
    assert_eq!(digest(&status), undisturbed(300), "{}", cluster.report(NAME));
    assert_eq!(status["corruptions"][0]["quarantined"], json!(["w2"]), "{status:#}");
}

#[test]
fn a_worker_that_is_wrong_at_every_repetition_of_a_tie_fails_the_job() {
    let flips = ["w2@12:flip"; 4].join(",");
    let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", &flips)]));
    let mut job = Job::convnet(NAME, &cluster.folder().join("runs"));
    job.workers = (2, 2);
    cluster.submit(&job.toml());
    let status = cluster.wait_for(NAME, "ended", |s| !s["ended"].is_null());
    let reason = status["reason"].as_str().unwrap_or_default();
    assert_eq!(status["state"], "failed", "{status:#}\n{}", cluster.report(NAME));
    assert!(reason.contains("step 12") && reason.contains("3 repetitions"), "{reason}");
}
