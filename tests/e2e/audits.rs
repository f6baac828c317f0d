//! Modules whose passes move more than what is trained, and audits: the same bits for any number of workers, or an end that
//! says why; a wrong gradient is found, and the worker that computed it is named.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use trainctl_tests::{Cluster, Job, kill, repository};

/// A job that trains a module of `tests/modules`.
fn module(name: &str, file: &str, root: &Path) -> Job {
    let path = repository().join("tests/modules").join(file);
    let mut job = Job::convnet(name, root);
    job.model = format!("kind = \"torchscript\"\npath = {path:?}\ndigest = \"{}\"", digest_of(&path));
    job
}

fn digest_of(path: &Path) -> String {
    format!("blake3:{}", blake3::hash(&std::fs::read(path).expect("read the module")).to_hex())
}

/// Waits for the end of a job that is to fail, and gives its reason.
fn reason_of_failure(cluster: &Cluster, job: &str) -> String {
    let status = cluster.wait_for(job, "ended", |s| !s["ended"].is_null());
    assert_eq!(status["state"], "failed", "{status:#}\n{}", cluster.report(job));
    status["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn modules_that_move_more_than_is_trained_end_with_the_same_bits_whatever_is_killed() {
    for file in ["momentum.pt", "through.pt", "quantised.pt"] {
        let cluster = Cluster::up(options(&[]));
        let root = cluster.folder().join("runs");
        let mut digests = Vec::new();
        for workers in 1..=4 {
            let name = format!("{}-{workers}", file.trim_end_matches(".pt"));
            let mut job = module(&name, file, &root);
            job.workers = (workers.min(2), workers);
            job.steps = 240;
            job.train = "eval_every = 100\naudit = 20".to_owned();
            cluster.submit(&job.toml());
            for (kills, at) in [30, 80, 130].into_iter().filter(|_| workers > 1).enumerate() {
                let _ = cluster.wait_for_step(&name, at);
                let pids = cluster.worker_pids(&name);
                kill(pids[kills % pids.len()], Signal::KILL);
            }
            let status = cluster.wait_for_success(&name);
            assert!(status["audits_passed"].as_u64() >= Some(12), "{status:#}\n{}", cluster.report(&name));
            digests.push(digest(&status));
        }
        assert!(digests.iter().all(|one| *one == digests[0]), "{file}: {digests:?}");

        let name = format!("{}-3", file.trim_end_matches(".pt"));
        let reproduced =
            cluster.json(&["reproduce", root.join(&name).to_str().expect("a plain path"), "--workers", "1"]);
        assert_eq!(reproduced["equal"], true, "{reproduced:#}");
    }
}

#[test]
fn audits_that_passed_are_counted_over_evictions_and_restarts() {
    let mut cluster = Cluster::up(options(&[]));
    let root = cluster.folder().join("runs");
    let mut job = Job::convnet("audited", &root);
    job.steps = 200;
    job.train.push_str("\naudit = 5");
    job.workers = (2, 3);
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("audited", 60);
    cluster.kill_coordinator();
    cluster.start();
    let before = cluster.wait_for("audited", "trained on", |s| s["step"].as_u64() >= Some(80));
    for pid in cluster.worker_pids("audited") {
        kill(pid, Signal::KILL);
    }
    let status = cluster.wait_for_success("audited");
    assert_eq!(digest(&status), undisturbed(200), "{}", cluster.report("audited"));
    let passed = status["audits_passed"].as_u64();
    assert!(passed >= Some(40), "one in five steps, those repeated once more: {status:#}");
    assert!(passed >= before["audits_passed"].as_u64(), "{before:#}\n{status:#}");
    let record: Value =
        serde_json::from_slice(&std::fs::read(root.join("audited/run.json")).expect("read run.json")).expect("JSON");
    let finished = record["events"].as_array().expect("events").iter().find(|event| event["kind"] == "finished");
    assert!(finished.is_some_and(|finished| finished["audits_passed"].as_u64() >= Some(40)), "{record:#}");
    let shown = cluster.command(&["show", "audited"]).output().expect("run show").stdout;
    assert!(String::from_utf8_lossy(&shown).contains("audits"), "{}", String::from_utf8_lossy(&shown));
}

#[test]
fn a_bit_that_flips_in_a_gradient_is_found_and_its_worker_named() {
    // As owner of the shard or as auditor, among others or alone.
    for (workers, wrong) in [(1, "w1"), (2, "w1"), (2, "w2"), (3, "w2")] {
        let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", &format!("{wrong}@25:flip-gradient"))]));
        let root = cluster.folder().join("runs");
        let mut job = Job::convnet("flipped", &root);
        job.workers = (workers, workers);
        job.steps = 120;
        job.train.push_str("\naudit = 1");
        cluster.submit(&job.toml());
        let status = cluster.wait_for_success("flipped");
        let report = || format!("{workers} workers\n{status:#}\n{}", cluster.report("flipped"));
        assert_eq!(digest(&status), undisturbed(120), "{}", report());
        let corruptions = status["corruptions"].as_array().expect("corruptions");
        assert_eq!(corruptions.len(), 1, "{}", report());
        let corruption = &corruptions[0];
        assert_eq!(corruption["subject"], "gradient", "{}", report());
        assert_eq!(corruption["quarantined"], json!([wrong]), "{}", report());
        assert!(corruption["step"].as_u64() >= Some(25) && corruption["shard"].as_u64() < Some(8), "{}", report());
        let explained = cluster.command(&["explain", "flipped"]).output().expect("run explain").stdout;
        let explained = String::from_utf8_lossy(&explained).into_owned();
        let shard = format!("shard {} at step {}", corruption["shard"], corruption["step"]);
        assert!(explained.contains(&shard) && explained.contains(wrong), "{shard}\n{explained}");
    }
}

#[test]
fn a_module_that_remembers_passes_is_stopped_by_the_first_audit() {
    for workers in [1, 2, 3] {
        let cluster = Cluster::up(options(&[]));
        let mut job = module("remembers", "tenth.pt", &cluster.folder().join("runs"));
        job.workers = (workers, workers);
        job.train = "audit = 15".to_owned();
        cluster.submit(&job.toml());
        let reason = reason_of_failure(&cluster, "remembers");
        assert!(reason.contains("of step 14 gave other bits when computed again"), "{workers} workers: {reason}");
        assert!(
            cluster.report("remembers").contains("counters and caches in attributes"),
            "{}",
            cluster.report("remembers")
        );
    }
}

#[test]
fn what_moves_without_being_carried_is_named_before_a_checkpoint() {
    let cluster = Cluster::up(options(&[]));
    let root = cluster.folder().join("runs");
    let mut job = module("wide", "wide.pt", &root);
    job.train = "audit = \"off\"".to_owned();
    cluster.submit(&job.toml());
    let reason = reason_of_failure(&cluster, "wide");
    assert!(reason.contains("expected table to stay as it is"), "{reason}");
    assert!(!root.join("wide/checkpoints/20/manifest.json").exists(), "saved without what moved");
}
