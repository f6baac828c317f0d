//! What lies in storage goes wrong: checkpoints that are damaged, data that is not what was pinned, a disk that is
//! full. A clear error or an older checkpoint, never a silent wrong result.

use crate::{digest, options, undisturbed};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trainctl_tests::{Cluster, Job, eventually, repository};

const STEPS: u64 = 300;

/// A job that was stopped on its way and has several checkpoints; the coordinator is down.
fn stopped_on_the_way(name: &str) -> (Cluster, PathBuf, Vec<u64>) {
    let mut cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = (2, 2);
    job.steps = STEPS;
    job.checkpoint = "every = \"30 steps\"\nkeep_last = 3".to_owned();
    cluster.submit(&job.toml());
    let _ = cluster.wait_for(name, "with three checkpoints", |s| s["checkpoints"].as_array().map(Vec::len) >= Some(3));
    assert!(cluster.run(&["stop"]).status.success());
    eventually("the coordinator ends", Duration::from_secs(30), || cluster.coordinator_status());
    let folder = cluster.folder().join("runs").join(name).join("checkpoints");
    let steps = committed(&folder);
    assert!(steps.len() >= 2, "{steps:?}");
    (cluster, folder, steps)
}

fn committed(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let whole = entries.filter(|e| e.path().join("manifest.json").is_file());
    let mut steps: Vec<u64> = whole.filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect();
    steps.sort_unstable();
    steps
}

fn flip_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn a_model_part(checkpoint: &Path) -> PathBuf {
    let files = std::fs::read_dir(checkpoint).unwrap().flatten().map(|e| e.path());
    let part = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    files.filter(part).min().unwrap()
}

fn goes_on_from_an_older_one(name: &str, damage: impl FnOnce(&Path)) {
    let (mut cluster, folder, steps) = stopped_on_the_way(name);
    let newest = steps[steps.len() - 1];
    damage(&folder.join(newest.to_string()));
    cluster.start();
    let status = cluster.wait_for_success(name);
    assert_eq!(digest(&status), undisturbed(STEPS), "{}", cluster.report(name));
    let report = cluster.report(name);
    let older = steps[steps.len() - 2];
    assert!(report.contains("skipped a checkpoint"), "{report}");
    assert!(report.contains(&format!("goes on from a checkpoint step={older}")), "{report}");
}

#[test]
fn a_flipped_bit_in_a_part_falls_back_to_the_checkpoint_before() {
    goes_on_from_an_older_one("flipped", |newest| flip_a_byte(&a_model_part(newest)));
}

#[test]
fn a_missing_part_falls_back_to_the_checkpoint_before() {
    goes_on_from_an_older_one("missing", |newest| std::fs::remove_file(a_model_part(newest)).unwrap());
}

#[test]
fn a_damaged_manifest_falls_back_to_the_checkpoint_before() {
    goes_on_from_an_older_one("cut", |newest| {
        let manifest = newest.join("manifest.json");
        let bytes = std::fs::read(&manifest).unwrap();
        std::fs::write(&manifest, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn when_no_checkpoint_is_whole_the_job_fails_and_says_so() {
    let (mut cluster, folder, steps) = stopped_on_the_way("none-whole");
    for step in steps {
        flip_a_byte(&a_model_part(&folder.join(step.to_string())));
    }
    cluster.start();
    let status = cluster.wait_for("none-whole", "ended", |s| !s["ended"].is_null());
    let reason = status["reason"].as_str().unwrap_or_default();
    assert_eq!(status["state"], "failed", "{status:#}");
    assert!(reason.contains("none-whole") && reason.contains("checkpoint"), "{reason}");
}

#[test]
fn changed_data_fails_the_job_and_names_object_expected_and_found() {
    let cluster = Cluster::up(options(&[]));
    let data = repository().join("jobs/data");
    let copy = cluster.folder().join("data");
    std::fs::create_dir(&copy).unwrap();
    for file in ["digits.csv.gz", "digits.manifest.json"] {
        std::fs::copy(data.join(file), copy.join(file)).unwrap();
    }
    let mut bytes = std::fs::read(copy.join("digits.csv.gz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(copy.join("digits.csv.gz"), bytes).unwrap();
    let mut job = Job::convnet("changed", &cluster.folder().join("runs"));
    job.workers = (2, 2);
    cluster.submit(&job.toml_for(&copy.join("digits.manifest.json")));
    let status = cluster.wait_for("changed", "ended", |s| !s["ended"].is_null());
    let reason = status["reason"].as_str().unwrap_or_default();
    assert_eq!(status["state"], "failed", "{status:#}");
    assert!(reason.contains("digits.csv.gz") && reason.matches("blake3:").count() == 2, "{reason}");
}

#[test]
fn a_full_disk_costs_checkpoints_and_nothing_else() {
    let cluster = Cluster::up(options(&[]));
    let disk = cluster.folder().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&disk).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: may not mount a small disk here");
        return;
    }
    let _unmount = Unmount(disk.clone());
    let mut job = Job::convnet("full", &disk);
    job.workers = (2, 2);
    job.steps = STEPS;
    job.checkpoint = "every = \"10 steps\"\nkeep_last = 2".to_owned();
    cluster.submit(&job.toml());
    let first = cluster.wait_for("full", "with a checkpoint", |s| s["checkpoints"].as_array().map(Vec::len) >= Some(1));
    let junk = disk.join("junk");
    // Ends with an error when the disk is full, as it should.
    let _ = std::fs::write(&junk, vec![1; 8 << 20]);
    let failed = cluster.wait_for("full", "unable to save", |s| !s["save_failure"].is_null());
    let reason = failed["save_failure"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no space left"), "{failed:#}");
    assert!(cluster.report("full").contains("train on without this checkpoint"), "{}", cluster.report("full"));
    assert!(first["ended"].is_null());
    std::fs::remove_file(&junk).unwrap();
    let status = cluster.wait_for_success("full");
    assert!(status["save_failure"].is_null(), "{status:#}");
    assert_eq!(digest(&status), undisturbed(STEPS), "{}", cluster.report("full"));
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: workers may still have files open on it.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
