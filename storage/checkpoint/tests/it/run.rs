//! Who may go on with a run.

use crate::support::{JOB, folder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::task::JoinSet;
use trainctl_checkpoint::{
    CheckpointError, Claim, Corruption, Evaluation, Finish, RUN_FORMAT_VERSION, RunEvent, RunRecord,
};

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
        reproducible: true,
        events: Vec::new(),
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

fn corruption(number: u64) -> Corruption {
    Corruption {
        number,
        at_ms: 1_700_000_001_000,
        step: 12,
        subject: "model".to_owned(),
        shard: None,
        digests: BTreeMap::from([("w1".to_owned(), "00".to_owned()), ("w2".to_owned(), "01".to_owned())]),
        quarantined: Vec::new(),
        back_to: Some(10),
        steps_repeated: Some(2),
    }
}

#[tokio::test]
async fn corruptions_are_noted_once_each_and_what_became_known_later_is_added() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.note(&[RunEvent::Corruption(corruption(1))]).await.unwrap();
    assert_eq!(folder.read_run().await.unwrap(), None, "there is no run to note it for");

    folder.claim_run(&record()).await.unwrap();
    let blamed = Corruption {
        quarantined: vec!["w2".to_owned()],
        at_ms: 1_700_000_009_000,
        back_to: None,
        steps_repeated: None,
        ..corruption(1)
    };
    for noted in [corruption(1), corruption(1), blamed, corruption(2)] {
        folder.note(&[RunEvent::Corruption(noted)]).await.unwrap();
    }
    let first = Corruption { quarantined: vec!["w2".to_owned()], ..corruption(1) };
    let events = [first, corruption(2)].map(RunEvent::Corruption).to_vec();
    let kept = folder.read_run().await.unwrap().unwrap();
    assert_eq!(kept.events, events);
    // It is no pin: the run goes on.
    assert_eq!(folder.claim_run(&record()).await.unwrap(), Claim::Resumed(Box::new(kept)));
}

#[tokio::test]
async fn a_corruption_names_the_shard_if_it_was_one_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.claim_run(&record()).await.unwrap();
    let of_shard = Corruption { subject: "gradient".to_owned(), shard: Some(3), ..corruption(2) };
    let events = [corruption(1), of_shard].map(RunEvent::Corruption).to_vec();
    folder.note(&events).await.unwrap();
    assert_eq!(folder.read_run().await.unwrap().unwrap().events, events);
    let written = std::fs::read(root.path().join(JOB).join("run.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!((written["events"][0].get("shard"), &written["events"][1]["shard"]), (None, &json!(3)));
}

#[tokio::test]
async fn how_often_shards_are_computed_twice_is_no_pin() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    // As it was written before there were audits.
    folder.claim_run(&record()).await.unwrap();
    for audit in [json!("auto"), json!("off"), json!(50)] {
        let mut later = record();
        later.job["train"]["audit"] = audit.clone();
        assert_eq!(folder.claim_run(&later).await.unwrap(), Claim::Resumed(Box::new(record())), "{audit}");
        assert_eq!(later.pins(), record().pins());
    }
}

#[test]
fn an_end_from_before_there_were_audits_is_read() {
    let end = json!({"kind": "finished", "step": 20, "state_digest": format!("blake3:{}", "0".repeat(64)), "loss": 0.5,
        "at_ms": 1});
    let RunEvent::Finished(finish) = serde_json::from_value(end).unwrap() else { panic!("an end") };
    assert_eq!((finish.step, finish.audits_passed), (20, 0));
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

fn evaluation(step: u64) -> RunEvent {
    RunEvent::Evaluation(Evaluation { step, loss: 1.0 / step as f64, accuracy: None, train_loss: None })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_workers_note_at_once_is_all_there_and_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.note(&[evaluation(1)]).await.unwrap();
    assert_eq!(folder.read_run().await.unwrap(), None, "no record is made for a note");
    folder.write_run(&record()).await.unwrap();
    let mut noting = JoinSet::new();
    for worker in 0..4 {
        let folder = folder.clone();
        noting.spawn(async move { folder.note(&[evaluation(1), evaluation(2 + worker)]).await });
    }
    while let Some(noted) = noting.join_next().await {
        noted.unwrap().unwrap();
    }
    let record = folder.read_run().await.unwrap().unwrap();
    let steps: Vec<u64> = record.evaluations().iter().map(|evaluation| evaluation.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_record_stays_small_and_keeps_its_end() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    folder.write_run(&record()).await.unwrap();
    let evaluations: Vec<RunEvent> = (1..=900).map(evaluation).collect();
    folder.note(&evaluations).await.unwrap();
    let more: Vec<RunEvent> = (901..=1700).map(evaluation).collect();
    folder.note(&more).await.unwrap();
    let state_digest = format!("blake3:{}", "0".repeat(64)).parse().unwrap();
    let finish = Finish { step: 1700, state_digest, loss: None, audits_passed: 41, at_ms: 1 };
    folder.note(&[RunEvent::Finished(finish.clone())]).await.unwrap();
    folder.note(&[RunEvent::Finished(Finish { at_ms: 2, ..finish.clone() })]).await.unwrap();
    let record = folder.read_run().await.unwrap().unwrap();
    assert_eq!(record.evaluations().len(), 850, "every second one");
    assert_eq!(record.finish(), Some(&finish));
}
