//! A group that begins anew from storage: each member reads its share of the checkpoint, and all come to the same state.

use crate::{digest, options, undisturbed};
use std::time::Duration;
use trainctl_tests::{Cluster, Job, eventually};

const STEPS: u64 = 300;

/// A job of three workers that was stopped on its way; the coordinator is down.
fn stopped(name: &str) -> Cluster {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = (3, 3);
    job.steps = STEPS;
    job.checkpoint = "every = \"30 steps\"\nkeep_last = 3".to_owned();
    cluster.submit(&job.toml());
    let _ = cluster.wait_for(name, "with two checkpoints", |s| s["checkpoints"].as_array().map(Vec::len) >= Some(2));
    assert!(cluster.run(&["stop"]).status.success());
    eventually("the coordinator ends", Duration::from_secs(30), || cluster.coordinator_status());
    cluster
}

/// What each worker said that it read when it went on: files, bytes, and the bytes of the whole checkpoint.
fn shares(report: &str) -> Vec<[u64; 3]> {
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!(" {name}=")).nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let lines = report.lines().filter(|line| line.contains("goes on from a checkpoint"));
    lines.filter_map(|line| Some([field(line, "files")?, field(line, "bytes")?, field(line, "of_bytes")?])).collect()
}

#[test]
fn each_member_reads_its_share_and_together_they_read_the_checkpoint_once() {
    let mut cluster = stopped("shared");
    cluster.start();
    let status = cluster.wait_for_success("shared");
    let report = cluster.report("shared");
    assert_eq!(digest(&status), undisturbed(STEPS), "{report}");
    let shares = shares(&report);
    assert_eq!(shares.len(), 3, "{report}");
    let whole = shares[0][2];
    assert_eq!(shares.iter().map(|share| share[1]).sum::<u64>(), whole, "{shares:?}\n{report}");
    assert!(shares.iter().all(|share| share[0] > 0 && share[1] < whole), "{shares:?}");
}

#[test]
fn a_member_that_dies_with_its_share_is_no_loss() {
    let mut cluster = stopped("dies-loading");
    cluster.set_environment("TRAINCTL_FAIL_AT", "w5@1:load");
    cluster.start();
    let status = cluster.wait_for_success("dies-loading");
    let report = cluster.report("dies-loading");
    assert_eq!(digest(&status), undisturbed(STEPS), "{report}");
    assert_eq!(report.matches("dies as TRAINCTL_FAIL_AT").count(), 1, "{report}");
}
