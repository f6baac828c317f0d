//! A run is run again from what its folder records, on real workers, and the bits are compared.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use trainctl_test_servers::Seaweed;
use trainctl_tests::{Cluster, Job, kill, repository};

/// A run of 60 steps that lost a worker on its way, in a folder of its own; nothing else of it is left.
fn a_disturbed_run(folder: &Path) -> PathBuf {
    let cluster = Cluster::up(options(&[]));
    let mut job = Job::convnet("original", folder);
    job.workers = (2, 4);
    cluster.submit(&job.toml());
    let _ = cluster.wait_for_step("original", 10);
    kill(cluster.worker_pids("original")[0], Signal::KILL);
    let status = cluster.wait_for_success("original");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("original"));
    folder.join("original")
}

fn reproduce(cluster: &Cluster, run: &Path) -> Output {
    cluster.command(&["--output", "json", "reproduce"]).arg(run).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn from_the_folder_alone_the_same_bits_and_other_pins_other_bits() {
    let elsewhere = Cluster::prepare(options(&[]));
    let run = a_disturbed_run(&elsewhere.folder().join("bucket"));

    let record = read(&run.join("run.json"));
    let events = record["events"].as_array().unwrap();
    let of_kind = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!(of_kind("finished"), 1, "{record:#}");
    assert!(of_kind("group") >= 2, "before and after the loss: {record:#}");
    assert_eq!(of_kind("evaluation"), 3, "at 25, 50 and the end: {record:#}");

    let output = reproduce(&elsewhere, &run);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let compared: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&compared["equal"], &compared["step"]), (&true.into(), &60.into()), "{compared:#}");
    assert_eq!(compared["expected"], undisturbed(60));
    let again = elsewhere.home().join("runs/original-again");
    let diff = elsewhere.command(&["diff"]).arg(&run).arg(&again).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));

    // Another seed in the record: it runs, and comes to another state.
    let mut other = record.clone();
    other["job"]["train"]["seed"] = 8.into();
    std::fs::write(run.join("run.json"), other.to_string()).unwrap();
    let output = reproduce(&elsewhere, &run);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let compared: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&compared["equal"], &compared["differs_from"]), (&false.into(), &20.into()), "{compared:#}");

    // Another machine: nothing is started.
    other["fingerprint"] = "blake3:00".into();
    std::fs::write(run.join("run.json"), other.to_string()).unwrap();
    let output = reproduce(&elsewhere, &run);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("fingerprint: expected blake3:00"), "{errors}");
    assert!(!elsewhere.home().join("runs/original-again-3").exists());
}

/// The digits in a bucket, under a manifest and beside a module that lie in `folder`: the manifest's path and digest, and
/// the module's.
fn pinned_far(cluster: &Cluster, server: &Seaweed, folder: &Path) -> (PathBuf, String, PathBuf) {
    let zipped = repository().join("jobs/data/digits.csv.gz");
    let text = std::process::Command::new("gzip").arg("-dc").arg(zipped).output().unwrap();
    server.put_text("data", "sets/digits.csv", &String::from_utf8(text.stdout).unwrap());
    std::fs::create_dir(folder).unwrap();
    let manifest = folder.join("digits.manifest.json");
    let pin = ["data", "pin", "s3://data/sets", "-o", &manifest.display().to_string(), "--scale", "1/16"];
    let pinned = cluster.json(&[&pin[..], &["--shape", "1x8x8"]].concat());
    let module = folder.join("digits.pt");
    std::fs::copy(repository().join("jobs/models/digits.pt"), &module).unwrap();
    (manifest, pinned["digest"].as_str().unwrap().to_owned(), module)
}

#[test]
fn from_a_bucket_alone_a_module_is_trained_again_to_the_same_bits() {
    let server = Seaweed::start();
    server.make_bucket("data");
    server.make_bucket("runs");
    let environment = server.environment();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let cluster = Cluster::up(options(&environment));
    let here = cluster.folder().join("here");
    let (manifest, pinned, module) = pinned_far(&cluster, &server, &here);
    let mut job = Job::convnet("far", Path::new("/unused"));
    let shown = cluster.json(&["model", "pin", &module.display().to_string()]);
    job.model = format!("kind = \"torchscript\"\npath = {module:?}\ndigest = {}", shown["digest"]);
    job.workers = (2, 3);
    let toml = job.toml_with(&manifest, &pinned).replace("file:///unused", "s3://runs/team");
    cluster.submit(&toml);
    let _ = cluster.wait_for_step("far", 10);
    kill(cluster.worker_pids("far")[0], Signal::KILL);
    let expected = digest(&cluster.wait_for_success("far"));
    drop(cluster);

    // Another home, and neither manifest nor module where the job found them: the bucket is all there is.
    let elsewhere = Cluster::prepare(options(&environment));
    assert!(!here.exists());
    let run = Path::new("s3://runs/team/far");
    let output = elsewhere.command(&["--output", "json", "reproduce", "--workers", "2"]).arg(run).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let compared: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&compared["equal"], &compared["step"]), (&true.into(), &60.into()), "{compared:#}");
    assert_eq!(compared["expected"], expected, "{compared:#}");
    let again = elsewhere.home().join("runs/far-again");
    let diff = elsewhere.command(&["diff"]).arg(run).arg(&again).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}
