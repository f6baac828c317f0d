//! Frozen parameters: the same bits for any number of workers, none of theirs changed, and written once.

use crate::{digest, options};
use serde_json::Value;
use std::path::Path;
use trainctl_tests::{Cluster, Job};

const STEPS: u64 = 500;

/// Nearly all of the model's parameters are frozen.
fn job(name: &str, root: &Path) -> Job {
    let mut job = Job::convnet(name, root);
    job.model = "kind = \"mlp\"\nhidden = [256, 256]\ndropout = 0.1".to_owned();
    job.train = "freeze = [\"layers.0.*\", \"layers.1.*\"]".to_owned();
    job.steps = STEPS;
    job.checkpoint = "every = \"100 steps\"\nkeep_last = 10".to_owned();
    job
}

/// Of all checkpoints, ascending. While one is being written none begins, so some may be left out.
fn manifests(root: &Path, name: &str) -> Vec<Value> {
    let steps = std::fs::read_dir(root.join(name).join("checkpoints")).unwrap().flatten();
    let read = |step: std::fs::DirEntry| std::fs::read(step.path().join("manifest.json")).ok();
    let mut all: Vec<Value> = steps.filter_map(read).map(|bytes| serde_json::from_slice(&bytes).unwrap()).collect();
    all.sort_by_key(|manifest| manifest["step"].as_u64());
    all
}

/// Files of a manifest, those that it refers to, and the bytes of the others.
fn added(manifest: &Value) -> (Vec<&Value>, u64) {
    let files = manifest["files"].as_array().unwrap();
    let (referenced, own): (Vec<&Value>, Vec<&Value>) = files.iter().partition(|file| file["step"].is_u64());
    (referenced, own.iter().filter_map(|file| file["bytes"].as_u64()).sum())
}

fn names(file: &Value) -> impl Iterator<Item = &str> {
    file["tensors"].as_array().unwrap().iter().filter_map(|tensor| tensor["name"].as_str())
}

#[test]
fn one_worker_and_three_train_the_rest_to_the_same_bits_and_write_what_is_frozen_once() {
    let cluster = Cluster::up(options(&[]));
    let root = cluster.folder().join("runs");
    let digests = [1, 3].map(|workers| {
        let name = format!("frozen-{workers}");
        let mut job = job(&name, &root);
        job.workers = (workers, workers);
        cluster.submit(&job.toml());
        let status = cluster.wait_for_success(&name);

        let manifests = manifests(&root, &name);
        let (first, later) = manifests.split_first().unwrap();
        let (referenced, all) = added(first);
        assert!(referenced.is_empty(), "{first:#}");
        assert_eq!(later.last().map(|last| &last["step"]), Some(&STEPS.into()));
        for later in later {
            let (step, (referenced, bytes)) = (&later["step"], added(later));
            eprintln!("{name}: step {step} wrote {bytes} bytes, the first checkpoint {all}");
            assert!(bytes * 10 < all, "step {step} wrote {bytes} of {all} bytes");
            let mut kept: Vec<&str> = referenced.iter().flat_map(|file| names(file)).collect();
            kept.sort_unstable();
            assert_eq!(kept, ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"], "{later:#}");
        }
        digest(&status)
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_lost_worker_changes_nothing_of_it() {
    let cluster = Cluster::up(options(&[("TRAINCTL_FAIL_AT", "w2@33:reduce")]));
    let root = cluster.folder().join("runs");
    let digests = [("alone", 1), ("lost", 3)].map(|(name, workers)| {
        let mut job = job(name, &root);
        job.workers = (workers, workers);
        cluster.submit(&job.toml());
        digest(&cluster.wait_for_success(name))
    });
    assert_eq!(digests[0], digests[1], "{}", cluster.report("lost"));
}

#[test]
fn a_pattern_that_fits_nothing_is_refused_before_anything_starts() {
    let cluster = Cluster::up(options(&[]));
    let mut job = job("misfit", &cluster.folder().join("runs"));
    job.train = "freeze = [\"layer.0.*\"]".to_owned();
    let path = cluster.folder().join("misfit.toml");
    std::fs::write(&path, job.toml()).unwrap();
    let output = cluster.command(&["submit"]).arg(&path).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        errors.contains("train.freeze: expected patterns that fit a parameter of the model: layers.0.weight"),
        "{errors}"
    );
    assert!(errors.contains("found \"layer.0.*\", which fits none"), "{errors}");
}
