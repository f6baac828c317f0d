//! A worker is lost in the middle of a save: the others write its part, and the checkpoint commits all the same.

use crate::{digest, options, undisturbed};
use serde_json::Value;
use std::path::Path;
use trainctl_tests::{Cluster, Job};

const STEPS: u64 = 200;

fn manifest(root: &Path, name: &str, step: u64) -> Value {
    let path = root.join(name).join("checkpoints").join(step.to_string()).join("manifest.json");
    let read = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&read).unwrap()
}

/// A job of three workers, the second of which dies at this phase of the save of step 20.
fn lose_one(name: &str, phase: &str) -> (Cluster, Value) {
    let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", &format!("w2@20:{phase}"))]));
    let root = cluster.folder().join("runs");
    let mut job = Job::convnet(name, &root);
    job.workers = (3, 3);
    job.steps = STEPS;
    job.checkpoint = "every = \"20 steps\"\nkeep_last = 100".to_owned();
    cluster.submit(&job.toml());
    let status = cluster.wait_for_success(name);
    let report = cluster.report(name);
    assert_eq!(digest(&status), undisturbed(STEPS), "{report}");
    assert_eq!(report.matches("dies as TRAINCTL_FAIL_AT").count(), 1, "{report}");
    let committed = manifest(&root, name, 20);
    // Of the group that began it.
    assert_eq!((&committed["world_size"], &committed["generation"]), (&3.into(), &1.into()), "{committed:#}\n{report}");
    let verified = cluster.run(&["ckpt", "verify", &root.join(name).display().to_string(), "--step", "20"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    (cluster, status)
}

#[test]
fn a_part_that_was_not_written_is_written_by_the_others() {
    let (cluster, _) = lose_one("unwritten", "save");
    let report = cluster.report("unwritten");
    assert!(report.contains("a save that lost a worker is whole step=20"), "{report}");
}

#[test]
fn a_part_that_was_written_counts() {
    let _ = lose_one("written", "checkpoint");
}
