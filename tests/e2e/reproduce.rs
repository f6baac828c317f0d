//! A run is run again from what its folder records, on real workers, and the bits are compared.

use crate::{digest, options, undisturbed};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use trainctl_tests::{Cluster, Job, kill};

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
