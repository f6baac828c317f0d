//! Who may go on with a run.

use crate::support::{JOB, folder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use trainctl_checkpoint::{CheckpointError, Claim, RUN_FORMAT_VERSION, RunRecord};

fn record() -> RunRecord {
    RunRecord {
        format_version: RUN_FORMAT_VERSION,
        job: json!({
            "name": "digits",
            "data": {"manifest": "/data/digits.json", "digest": "blake3:00"},
            "model": {"kind": "mlp", "hidden": [128, 64]},
            "train": {"seed": 7, "numerics": "exact", "optimizer": {"kind": "adamw", "lr": 0.001}},
            "resources": {"workers": {"min": 1, "max": 4}},
        }),
        data_digest: "blake3:00".to_owned(),
        program_version: "0.1.0".to_owned(),
        libtorch_version: "2.13.0".to_owned(),
        fingerprint: "blake3:11".to_owned(),
        fingerprint_detail: "1 thread, cpu".to_owned(),
        seed: 7,
        submitted_ms: 1_700_000_000_000,
    }
}

#[tokio::test]
async fn the_first_claims_and_whoever_agrees_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    assert_eq!(folder.read_run().await.unwrap(), None);
    assert_eq!(folder.claim_run(&record()).await.unwrap(), Claim::New);

    let mut later = record();
    later.submitted_ms += 1;
    later.fingerprint_detail = "1 thread, another host".to_owned();
    later.job["resources"]["workers"]["max"] = json!(8);
    later.job["data"]["manifest"] = json!("/elsewhere/digits.json");
    assert_eq!(folder.claim_run(&later).await.unwrap(), Claim::Resumed(Box::new(record())));
    assert!(!folder.write_run(&later).await.unwrap());
    assert_eq!(folder.read_run().await.unwrap(), Some(record()));
}

#[tokio::test]
async fn each_pin_that_differs_is_named_with_both_values() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.claim_run(&record()).await.unwrap();
    type Edit = fn(&mut RunRecord);
    let edits: [(Edit, &str, &str, &str); 8] = [
        (|r| r.job["train"]["optimizer"]["lr"] = json!(0.01), "job.train.optimizer.lr", "0.01", "0.001"),
        (|r| r.job["model"]["hidden"] = json!([128]), "job.model.hidden", "[128]", "[128,64]"),
        (|r| r.job["train"]["clip_norm"] = json!(1.0), "job.train.clip_norm", "1.0", "nothing"),
        (|r| drop(r.job["train"].as_object_mut().unwrap().remove("seed")), "job.train.seed", "nothing", "7"),
        (|r| r.data_digest = "blake3:22".into(), "data_digest", "\"blake3:22\"", "\"blake3:00\""),
        (|r| r.fingerprint = "blake3:33".into(), "fingerprint", "\"blake3:33\"", "\"blake3:11\""),
        (|r| r.program_version = "0.2.0".into(), "program_version", "\"0.2.0\"", "\"0.1.0\""),
        (|r| r.seed = 8, "seed", "8", "7"),
    ];
    for (edit, pin, expected, found) in edits {
        let mut other = record();
        edit(&mut other);
        let error = folder.claim_run(&other).await.unwrap_err();
        let text = format!("{JOB}/run.json: {pin}: expected {expected}, found {found}");
        assert!(error.to_string().ends_with(&text), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn fast_numerics_pin_no_hardware() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let mut fast = record();
    fast.job["train"]["numerics"] = json!("fast");
    folder.claim_run(&fast).await.unwrap();
    let elsewhere = RunRecord { fingerprint: "blake3:44".to_owned(), libtorch_version: "2.14.0".to_owned(), ..fast };
    assert!(matches!(folder.claim_run(&elsewhere).await.unwrap(), Claim::Resumed(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claims_at_once_one_is_new() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let mut racers = JoinSet::new();
    for _ in 0..16 {
        let folder = folder.clone();
        racers.spawn(async move { folder.claim_run(&record()).await.unwrap() });
    }
    let claims = racers.join_all().await;
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::New).count(), 1);
}

#[tokio::test]
async fn rubbish_and_newer_formats_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.claim_run(&record()).await.unwrap();
    let path = root.path().join(JOB).join("run.json");
    let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written["format_version"], 1);

    std::fs::write(&path, "{}").unwrap();
    let error = folder.claim_run(&record()).await.unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged(_)), "{error}");
    std::fs::write(&path, r#"{"format_version": 9}"#).unwrap();
    let error = folder.claim_run(&record()).await.unwrap_err();
    assert!(matches!(error, CheckpointError::FormatVersion { supported: 1, found: 9, .. }), "{error}");
}
