//! The repository's jobs on their real data. Only the digits job is trained to its end; the others for long enough to
//! see them learn.

mod common;

use common::{evaluate_shards, train_shards};
use std::path::Path;
use trainctl_data::{Dataset, Manifest};
use trainctl_jobs::ModelSpec;
use trainer_engine::{Device, Engine, Evaluation};

/// Trains `jobs/NAME.toml` for so many steps, or as many as it says.
fn train(name: &str, steps: Option<u64>) -> (Evaluation, Evaluation) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../jobs"));
    let file = folder.join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("read the job");
    let mut spec = trainctl_jobs::parse(&text, name).expect("a job spec");
    spec.train.steps = steps.or(spec.train.steps);
    if let ModelSpec::Torchscript { path, .. } = &mut spec.model {
        *path = folder.join(&*path).display().to_string();
    }
    let steps = spec.train.steps.expect("a count of steps");

    let path = folder.join(&spec.data.manifest);
    let manifest = Manifest::parse(&std::fs::read(&path).expect("read the manifest"), name).expect("a manifest");
    let data = Dataset::open(&manifest, path.parent().expect("a folder")).expect("open the data");
    let mut engine = Engine::new(&spec, data, Device::Cpu).expect("make an engine");
    let shards = spec.train.logical_shards;
    let before = evaluate_shards(&mut engine, shards);
    train_shards(&mut engine, shards, 0..steps, false);
    (before, evaluate_shards(&mut engine, shards))
}

#[test]
fn digits_end_above_97_percent() {
    let (_, after) = train("digits", None);
    assert!(after.accuracy.is_some_and(|share| share >= 0.97), "{after:?}");
}

#[test]
fn the_convnet_learns_mnist() {
    let (before, after) = train("mnist-convnet", Some(100));
    assert!(before.accuracy.is_some_and(|share| share < 0.3), "{before:?}");
    assert!(after.accuracy.is_some_and(|share| share >= 0.95), "{after:?}");
}

#[test]
fn the_gpt_learns_shakespeare() {
    let (before, after) = train("shakespeare-gpt", Some(80));
    assert!(before.loss > 5.4, "{before:?}");
    // Bytes by their frequency alone would leave 3.33.
    assert!(after.loss < 3.1, "{after:?}");
}

#[test]
fn the_module_of_ones_own_learns_the_digits() {
    let (before, after) = train("digits-torchscript", Some(150));
    assert!(before.accuracy.is_some_and(|share| share < 0.3), "{before:?}");
    assert!(after.accuracy.is_some_and(|share| share >= 0.95), "{after:?}");
}
