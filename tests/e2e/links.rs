//! The connections between workers: encrypted without a change of bits, and peers that fall silent while nobody but
//! the workers themselves can notice.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use trainctl_tests::{Cluster, Job, eventually, kill};

/// What one worker wrote.
fn log(cluster: &Cluster, job: &str, worker: &str) -> String {
    std::fs::read_to_string(cluster.home().join("logs").join(job).join(format!("{worker}.log"))).unwrap_or_default()
}

/// A running job with these workers, their names and processes; its coordinator is dead.
fn abandoned(name: &str, steps: u64, workers: u32) -> (Cluster, Vec<(String, u32)>) {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = (workers, workers);
    job.steps = steps;
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step(name, 10);
    let named = |worker: &serde_json::Value| {
        let pid = worker["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
        (worker["worker"].as_str().unwrap().to_owned(), pid)
    };
    let named = cluster.workers(name).iter().map(named).collect();
    cluster.kill_coordinator();
    (cluster, named)
}

#[test]
fn encryption_changes_no_bit() {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("encrypted", &cluster.folder().join("runs"));
    job.workers = (3, 3);
    job.resources = "encryption = \"always\"".to_owned();
    cluster.submit(&job.toml());
    let status = cluster.wait_for_success("encrypted");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("encrypted"));
    let met = log(&cluster, "encrypted", "w1");
    assert!(met.contains("connections=2 encrypted=2"), "{met}");
}

#[test]
fn a_worker_that_joins_after_a_restart_has_a_certificate_that_the_others_take() {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("reissued", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = 1000;
    job.resources = "encryption = \"always\"".to_owned();
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("reissued", 10);
    let killed = cluster.worker_pids("reissued")[1];
    cluster.kill_coordinator();
    kill(killed, Signal::KILL);
    cluster.start();
    let status = cluster.wait_for_success("reissued");
    assert_eq!(digest(&status), undisturbed(1000), "{}", cluster.report("reissued"));
    let met = log(&cluster, "reissued", "w3");
    assert!(met.contains("connections=1 encrypted=1"), "{met}");
}

#[test]
fn a_worker_that_falls_silent_is_noticed_without_a_coordinator() {
    let (mut cluster, workers) = abandoned("silent", 1000, 2);
    let [(survivor, _), (frozen, pid)] = workers.as_slice() else { panic!("{workers:?}") };
    let began = Instant::now();
    kill(*pid, Signal::STOP);
    let seen = format!("lost {frozen}: silent for ");
    eventually("the survivor notices", Duration::from_secs(30), || {
        log(&cluster, "silent", survivor).contains(&seen).then_some(())
    });
    let took = began.elapsed();
    // Two seconds are the bound; a quarter of it until the next look, and some for a busy machine.
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}\n{}", cluster.report("silent"));
    cluster.start();
    let status = cluster.wait_for_success("silent");
    assert_eq!(digest(&status), undisturbed(1000), "{}", cluster.report("silent"));
}

#[test]
fn workers_that_were_stopped_together_blame_nobody() {
    let (mut cluster, workers) = abandoned("paused", 1000, 2);
    for (_, pid) in &workers {
        kill(*pid, Signal::STOP);
    }
    // As a suspended machine would be, for longer than the bound.
    std::thread::sleep(Duration::from_secs(3));
    for (_, pid) in &workers {
        kill(*pid, Signal::CONT);
    }
    cluster.start();
    let status = cluster.wait_for_success("paused");
    assert_eq!(digest(&status), undisturbed(1000), "{}", cluster.report("paused"));
    for (worker, _) in &workers {
        let log = log(&cluster, "paused", worker);
        assert!(!log.contains("lost w"), "{log}");
    }
}
