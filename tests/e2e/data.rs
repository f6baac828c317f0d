//! Pinned data in a bucket: trained on as if it were here, and not trained on when it is other data.

use crate::{digest, options, undisturbed};
use std::process::{Command, Stdio};
use trainctl_test_servers::Seaweed;
use trainctl_tests::{Cluster, Job, repository};

const STEPS: u64 = 60;
const MANIFEST: &str = "s3://data/sets/digits.manifest.json";

/// The digits in a bucket, and a cluster whose workers have a cache of their own.
fn in_a_bucket() -> (Seaweed, Cluster, String) {
    let server = Seaweed::start();
    server.make_bucket("data");
    let zipped = repository().join("jobs/data/digits.csv.gz");
    let text = Command::new("gzip").arg("-dc").arg(zipped).stderr(Stdio::inherit()).output().unwrap();
    server.put_text("data", "sets/digits.csv", &String::from_utf8(text.stdout).unwrap());
    let mut cluster = Cluster::prepare(options(&[]));
    for (name, value) in server.environment() {
        cluster.set_environment(name, &value);
    }
    let cache = cluster.folder().join("cache").display().to_string();
    cluster.set_environment("TRAINCTL_CACHE", &cache);
    cluster.start();
    let pin = ["data", "pin", "s3://data/sets", "-o", MANIFEST, "--scale", "1/16", "--shape", "1x8x8"];
    let pinned = cluster.json(&pin);
    let digest = pinned["digest"].as_str().unwrap().to_owned();
    (server, cluster, digest)
}

#[test]
fn a_job_trains_on_data_in_a_bucket_to_the_bits_of_local_data() {
    let (_server, cluster, pinned) = in_a_bucket();
    let mut job = Job::convnet("far", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = STEPS;
    cluster.submit(&job.toml_with(MANIFEST.as_ref(), &pinned));
    let status = cluster.wait_for_success("far");
    assert_eq!(digest(&status), undisturbed(STEPS), "{}", cluster.report("far"));
    let cached = std::fs::read_dir(cluster.folder().join("cache/rows")).unwrap().flatten();
    assert_eq!(cached.filter(|entry| entry.path().is_file()).count(), 1, "both workers share one entry");
}

#[test]
fn other_data_in_the_bucket_fails_the_job_and_names_object_expected_and_found() {
    let (server, cluster, pinned) = in_a_bucket();
    let text = Command::new("gzip").arg("-dc").arg(repository().join("jobs/data/digits.csv.gz")).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    // Of the same size: only reading it tells.
    let last = text.trim_end().len() - 1;
    let other = if text.as_bytes()[last] == b'1' { "2" } else { "1" };
    server.put_text("data", "sets/digits.csv", &format!("{}{other}{}", &text[..last], &text[last + 1..]));
    let job = Job::convnet("changed-far", &cluster.folder().join("runs"));
    cluster.submit(&job.toml_with(MANIFEST.as_ref(), &pinned));
    let status = cluster.wait_for("changed-far", "ended", |s| !s["ended"].is_null());
    let reason = status["reason"].as_str().unwrap_or_default();
    assert_eq!(status["state"], "failed", "{status:#}");
    assert!(reason.contains("s3://data/sets/digits.csv") && reason.matches("blake3:").count() == 2, "{reason}");
}
