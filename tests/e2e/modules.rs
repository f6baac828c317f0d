//! A module of the user's own is tried by the real worker program before a job of it exists.

use crate::options;
use serde_json::Value;
use std::path::{Path, PathBuf};
use trainctl_tests::{Cluster, Job, repository};

fn digits() -> PathBuf {
    repository().join("jobs/data/digits.manifest.json")
}

/// A module of the engine's tests.
fn module(file: &str) -> PathBuf {
    repository().join("trainer/engine/tests/modules").join(file)
}

/// `trainctl --output json`: its exit code, and what it prints or the error that it ends with.
fn run(cluster: &Cluster, arguments: &[&str], paths: &[&Path]) -> (i32, Value) {
    let output = cluster.command(&["--output", "json"]).args(arguments).args(paths).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = if output.status.success() { &output.stdout } else { &output.stderr };
    let json =
        serde_json::from_slice(text).unwrap_or_else(|error| panic!("{arguments:?} {paths:?}: {error}: {errors}"));
    (output.status.code().unwrap_or(-1), json)
}

/// The message and the hint of the one error.
fn refusal(cluster: &Cluster, arguments: &[&str], paths: &[&Path]) -> (String, String) {
    let (code, failure) = run(cluster, arguments, paths);
    assert_eq!(code, 2, "{failure:#}");
    let errors = failure["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{failure:#}");
    (errors[0]["message"].as_str().unwrap().to_owned(), errors[0]["hint"].as_str().unwrap().to_owned())
}

#[test]
fn pin_says_what_is_trained_and_what_moves() {
    let cluster = Cluster::prepare(options(&[]));
    let digits_pt = repository().join("jobs/models/digits.pt");
    let (code, loaded) = run(&cluster, &["model", "pin"], &[&digits_pt]);
    assert_eq!((code, &loaded["module"]["trial"]), (0, &Value::Null), "{loaded:#}");
    let trained = &loaded["module"]["trained"];
    assert!(trained["tensors"].as_u64() > Some(2) && trained["elements"].as_u64() > Some(1000), "{loaded:#}");

    let (code, tried) = run(&cluster, &["model", "pin", "--micro-batch", "8", "--data"], &[&digits(), &digits_pt]);
    assert_eq!(code, 0, "{tried:#}");
    assert_eq!(&tried["module"]["trained"], trained);
    let trial = &tried["module"]["trial"];
    assert_eq!(trial["samples"], 8);
    let moving: Vec<&str> = trial["moving_buffers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(moving.iter().any(|name| name.ends_with("running_mean")), "{tried:#}");
    let loss = trial["loss"].as_f64().unwrap();
    assert!((1.0..4.0).contains(&loss), "that of ten classes, untrained: {loss}");
}

#[test]
fn pin_refuses_what_a_worker_would() {
    let cluster = Cluster::prepare(options(&[]));
    for (file, expected) in [
        ("custom.pt", "expected a module of torch's own operators, found the operator tests::twice in "),
        ("frozen.pt", "expected a module with parameters, found none in "),
    ] {
        let path = module(file);
        let (message, _) = refusal(&cluster, &["model", "pin"], &[&path]);
        assert!(message.starts_with(&format!("{}: {expected}", path.display())), "{message}");
    }
    for (file, expected) in [
        ("misfits/few-features.pt", "expected a module for the data's batches, float32 of shape [32, 1, 8, 8], found "),
        (
            "misfits/two-arguments.pt",
            "expected a forward that takes the data's batches, float32 of shape [32, 1, 8, 8], ",
        ),
        ("misfits/sparse.pt", "expected a module for the data's batches, float32 of shape [32, 1, 8, 8], found "),
    ] {
        let path = module(file);
        let (message, hint) = refusal(&cluster, &["model", "pin", "--data"], &[&digits(), &path]);
        assert!(message.starts_with(&format!("{}: {expected}", path.display())), "{message}");
        assert!(!message.contains("nternal") && !hint.is_empty(), "{message}");
    }
}

#[test]
fn submit_refuses_a_module_that_does_not_fit_before_there_is_a_job() {
    let cluster = Cluster::up(options(&[]));
    let path = module("misfits/few-features.pt");
    let (_, pinned) = run(&cluster, &["model", "pin"], &[&path]);
    let mut job = Job::convnet("misfit", &cluster.folder().join("runs"));
    job.model = format!("kind = \"torchscript\"\npath = {path:?}\ndigest = {}", pinned["digest"]);
    let file = cluster.folder().join("job.toml");
    std::fs::write(&file, job.toml()).unwrap();
    for submit in [&["submit"][..], &["submit", "--local"]] {
        let (message, _) = refusal(&cluster, submit, &[&file]);
        // The job's own micro-batch: 64 samples over 8 logical shards.
        let expected = "model.path: expected a module for the data's batches, float32 of shape [8, 1, 8, 8], found ";
        assert!(message.starts_with(&format!("{}: {expected}", file.display())), "{message}");
    }
    assert_eq!(cluster.json(&["ls"]), serde_json::json!([]));
    assert_eq!(cluster.json(&["worker", "ls"]), serde_json::json!([]));
}
