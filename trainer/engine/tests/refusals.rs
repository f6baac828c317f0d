//! What is wrong is said, and never trained on.

mod common;

use common::{Fixture, bits, vector};
use trainctl_jobs::{LossSpec, ModelSpec};
use trainer_engine::{Engine, EngineError, NotFinite};

fn refusal(fixture: &Fixture) -> String {
    match Engine::new(&fixture.spec, fixture.data()) {
        Ok(_) => panic!("{:?} was taken", fixture.spec.model),
        Err(error @ EngineError::Spec { .. }) => {
            assert!(error.hint().is_some());
            error.to_string()
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn models_that_do_not_fit_the_data_are_refused() {
    let gpt = |heads| ModelSpec::Gpt { layers: 1, heads, width: 36, context: 20, dropout: 0.0 };
    let mlp = ModelSpec::Mlp { hidden: vec![8], dropout: 0.0 };
    let convnet = |blocks: u32| ModelSpec::Convnet { channels: vec![4; blocks as usize], dropout: 0.0 };
    for (name, model, expected) in [
        ("mlp", gpt(3), "model.kind: expected text for a gpt, found samples of numbers"),
        ("gpt", mlp, "model.kind: expected numbers for an mlp, found text"),
        ("gpt", gpt(5), "model.heads: expected a divisor of model.width = 36, found 5"),
        (
            "mlp",
            convnet(1),
            "model.kind: expected images, [height, width] or [channels, height, width], for a convnet, \
             found features of shape [64]",
        ),
        (
            "convnet",
            convnet(4),
            "model.channels: expected at most 3 blocks, as each halves the 8x8 image, found 4 blocks",
        ),
    ] {
        let mut fixture = Fixture::new(name);
        fixture.spec.model = model;
        assert_eq!(refusal(&fixture), expected);
    }
}

#[test]
fn losses_that_do_not_fit_the_target_are_refused() {
    let mut classes = Fixture::new("mlp");
    classes.spec.train.loss = LossSpec::Mse;
    assert_eq!(
        refusal(&classes),
        "train.loss: expected \"cross-entropy\", as the data's target is a class, found \"mse\""
    );
    let mut numbers = Fixture::new("mse");
    numbers.spec.train.loss = LossSpec::CrossEntropy;
    assert_eq!(
        refusal(&numbers),
        "train.loss: expected \"mse\", as the data's target is a number, found \"cross-entropy\""
    );
}

#[test]
fn what_is_not_finite_is_an_error_and_leaves_the_state_alone() {
    let mut engine = Fixture::new("convnet").engine();
    let before = bits(engine.state());
    let good = vector(&mut engine, 0, 0);
    let buffer = engine.tensors().iter().find(|tensor| tensor.name.ends_with("running_mean")).expect("a buffer").offset;
    let loss = good.len() - 16;
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (at, expected) in [(5, NotFinite::Gradient), (buffer, NotFinite::Buffer), (loss, NotFinite::Loss)] {
            let mut sum = good.clone();
            sum[at] = broken;
            match engine.apply(4, &sum) {
                Err(EngineError::NotFinite { step: 4, what }) if what == expected => {}
                other => panic!("{broken} in {expected}: {other:?}"),
            }
            assert!(bits(engine.state()) == before);
        }
    }
    engine.apply(4, &good).expect("a finite sum");
}

#[test]
fn a_run_that_diverges_ends_with_an_error() {
    let mut fixture = Fixture::new("mse");
    fixture.spec.train.clip_norm = None;
    fixture.spec.train.optimizer =
        trainctl_jobs::OptimizerSpec::Sgd { lr: 1e6, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let mut engine = fixture.engine();
    let failed = (0..60).find_map(|step| {
        let vectors = (0..common::SHARDS).map(|shard| vector(&mut engine, step, shard)).collect();
        engine.apply(step, &common::tree_sum(vectors)).err()
    });
    assert!(matches!(failed, Some(EngineError::NotFinite { .. })), "{failed:?}");
}

#[test]
fn a_job_that_holds_nothing_out_has_no_evaluation() {
    let mut fixture = Fixture::new("mlp");
    fixture.spec.data.held_out = 0.0;
    let mut engine = fixture.engine();
    let mut out = vec![f32::NAN; engine.eval_len()];
    engine.eval_shard(0, &mut out).expect("evaluate nothing");
    assert_eq!(engine.evaluation(&out).expect("nothing is no error"), None);
}
