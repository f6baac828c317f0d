//! `numerics = "fast"`: workers of any numerics share a job, all end with one state, and it is said that the same job
//! would give another.

use crate::{digest, mixed};
use serde_json::Value;
use std::collections::BTreeSet;
use trainctl_tests::Job;

#[test]
fn machines_of_different_numerics_share_a_fast_job_and_agree_at_its_end() {
    let cluster = mixed();
    let root = cluster.folder().join("runs");
    let mut job = Job::convnet("fast", &root);
    job.workers = (3, 3);
    job.train.push_str("\nnumerics = \"fast\"");
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("fast", 5);
    let workers = cluster.workers("fast");
    let fingerprints: BTreeSet<&str> = workers.iter().filter_map(|worker| worker["fingerprint"].as_str()).collect();
    let status = cluster.wait_for_success("fast");
    assert_eq!(fingerprints.len(), 2, "{workers:#?}");
    assert!(!digest(&status).is_empty());
    assert_eq!((&status["numerics"], &status["fingerprint"]), (&"fast".into(), &Value::Null));
    let accuracy = status["eval"]["accuracy"].as_f64().unwrap_or_default();
    assert!(accuracy > 0.3, "it learns: {status:#}");

    let shown = String::from_utf8(cluster.command(&["show", "fast"]).output().unwrap().stdout).unwrap();
    assert!(shown.contains("computed again, the job would give other bits"), "{shown}");
    let record = std::fs::read_to_string(root.join("fast/run.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["reproducible"], false, "{record:#}");
}
