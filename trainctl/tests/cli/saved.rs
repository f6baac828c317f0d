//! Runs in storage, made without a worker.

use serde_json::json;
use trainctl_checkpoint::{
    CommitInfo, Evaluation, Finish, Group, RUN_FORMAT_VERSION, RunEvent, RunFolder, RunRecord, TensorInfo, state_digest,
};

/// A model of two tensors and an optimizer's slot for one of them.
fn tensors() -> [TensorInfo; 3] {
    let tensor = |name: &str, group, shape: &[usize], offset| TensorInfo {
        name: name.to_owned(),
        group,
        shape: shape.to_vec(),
        offset,
        len: shape.iter().product(),
        constant: false,
        absent: None,
    };
    [
        tensor("bias", Group::Model, &[3], 16),
        tensor("weight", Group::Model, &[2, 3], 0),
        tensor("weight.exp_avg", Group::Optimizer, &[2, 3], 32),
    ]
}

/// The state after `step` updates: the bias never changes.
pub(crate) fn state(step: u64) -> Vec<f32> {
    let value = |at: usize| if (16..32).contains(&at) { 0.5 } else { at as f32 * step as f32 / 10.0 };
    (0..48).map(value).collect()
}

/// Saves these steps of the job `points`, each by one worker.
pub(crate) fn save(root: &str, steps: &[u64]) {
    save_audited(root, steps, 0);
}

/// The same, of a run of which so many audits have passed.
pub(crate) fn save_audited(root: &str, steps: &[u64], audits_passed: u64) {
    let tensors = tensors();
    run(async {
        let folder = RunFolder::open(root, "points").unwrap();
        for &step in steps {
            let state = state(step);
            let info = CommitInfo {
                loss: Some(1.0 / step as f64),
                world_size: 2,
                generation: 3,
                audits_passed,
                why: format!("every {step} steps"),
                state_digest: state_digest(&tensors, &state, step),
                created_ms: 1_700_000_000_000,
            };
            folder.write_part(step, 0, 1, &tensors, &state).await.unwrap();
            folder.try_commit(step, 1, &info).await.unwrap().expect("the only part is there");
        }
    });
}

/// A record of a run of 20 steps over the table of points.
pub(crate) fn record(seed: u64, manifest: &str, digest: &str) -> RunRecord {
    RunRecord {
        format_version: RUN_FORMAT_VERSION,
        job: json!({
            "name": "points",
            "data": {"manifest": manifest, "digest": digest},
            "model": {"kind": "mlp", "hidden": [8]},
            "train": {
                "seed": seed, "steps": 20, "global_batch": 8, "logical_shards": 4,
                "optimizer": {"kind": "adamw", "lr": 0.001},
            },
        }),
        data_digest: digest.to_owned(),
        program_version: "0.0.1".to_owned(),
        libtorch_version: "2.0.0".to_owned(),
        reproducible: true,
        fingerprint: "blake3:11".to_owned(),
        fingerprint_detail: "1 thread, cpu".to_owned(),
        seed,
        submitted_ms: 1_700_000_000_000,
        events: Vec::new(),
    }
}

/// Writes the record of the job `points`, then what happened: two evaluations, and the end at step 20.
pub(crate) fn write_record(root: &str, record: &RunRecord) {
    let evaluation = |step, loss| {
        let (accuracy, train_loss) = (Some(1.0 - loss), Some(loss / 2.0));
        RunEvent::Evaluation(Evaluation { step, loss, accuracy, train_loss })
    };
    let finish = Finish {
        step: 20,
        state_digest: state_digest(&tensors(), &state(20), 20),
        loss: Some(0.05),
        audits_passed: 0,
        at_ms: 1_700_000_020_000,
    };
    let seed = record.seed as f64;
    run(async {
        let folder = RunFolder::open(root, "points").unwrap();
        assert!(folder.write_run(record).await.unwrap());
        let events = [evaluation(10, 0.5 / seed), evaluation(20, 0.25 / seed), RunEvent::Finished(finish)];
        folder.note(&events).await.unwrap();
    });
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}
