//! What is wrong is said, and never trained on.

mod common;

use common::{Fixture, bits, cells, vector};
use trainctl_jobs::{LossSpec, ModelSpec, NonFiniteSpec};
use trainer_engine::{Device, Engine, EngineError, NotFinite};

fn refusal(fixture: &Fixture) -> String {
    match Engine::new(&fixture.spec, fixture.data(), Device::Cpu) {
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
    engine.eval_shard(0, cells(&mut out)).expect("evaluate nothing");
    assert_eq!(engine.evaluation(&out).expect("nothing is no error"), None);
}

/// A job that skips what is not finite, and a good vector of its first step.
fn skipping() -> (Engine, Vec<f32>) {
    let mut fixture = Fixture::new("convnet");
    fixture.spec.train.on_nonfinite = NonFiniteSpec::Skip;
    let mut engine = fixture.engine();
    let vectors = (0..common::SHARDS).map(|shard| vector(&mut engine, 0, shard)).collect();
    (engine, common::tree_sum(vectors))
}

/// The state without the count of skipped steps, which comes last.
fn trained(engine: &Engine) -> Vec<u32> {
    let count = engine.tensors().last().expect("a tensor");
    assert_eq!(count.name, "skipped_steps");
    bits(&engine.state()[..count.offset])
}

#[test]
fn a_skipped_step_changes_the_count_alone() {
    let (mut engine, good) = skipping();
    let before = trained(&engine);
    let buffer = engine.tensors().iter().find(|tensor| tensor.name.ends_with("running_mean")).expect("a buffer").offset;
    let loss = good.len() - 16;
    for (i, (at, what)) in
        [(5, NotFinite::Gradient), (buffer, NotFinite::Buffer), (loss, NotFinite::Loss)].into_iter().enumerate()
    {
        let mut sum = good.clone();
        sum[at] = f32::NAN;
        assert_eq!(engine.apply(i as u64, &sum).expect("a skipped step").skipped, Some(what));
        assert!(trained(&engine) == before, "{what}");
        assert_eq!(engine.skipped(), i as u64 + 1);
    }
    assert_eq!(engine.apply(3, &good).expect("a finite sum").skipped, None);
    assert!(trained(&engine) != before);
    assert_eq!(engine.skipped(), 3);
}

#[test]
fn skipping_gives_the_state_that_a_job_without_that_step_would_have() {
    let (mut engine, good) = skipping();
    let mut other = Fixture::new("convnet").engine();
    let mut broken = good.clone();
    broken[0] = f32::INFINITY;
    engine.apply(0, &broken).expect("a skipped step");
    engine.apply(1, &good).expect("a finite sum");
    other.apply(1, &good).expect("a finite sum");
    assert!(trained(&engine) == bits(other.state()));
}

#[test]
fn a_hundred_skipped_steps_in_a_row_end_the_job_also_when_another_worker_took_the_state_over() {
    let (mut engine, good) = skipping();
    let (mut joiner, _) = skipping();
    let mut broken = good.clone();
    broken[7] = f32::NEG_INFINITY;
    engine.apply(0, &broken).expect("a skipped step");
    engine.apply(1, &good).expect("the row ends");
    for step in 2..101 {
        if step == 60 {
            joiner.state_mut().copy_from_slice(engine.state());
            std::mem::swap(&mut engine, &mut joiner);
        }
        engine.apply(step, &broken).expect("a skipped step");
    }
    let before = bits(engine.state());
    let error = engine.apply(101, &broken).expect_err("too many");
    assert!(
        matches!(error, EngineError::AllSkipped { step: 101, in_a_row: 100, what: NotFinite::Gradient }),
        "{error}"
    );
    assert!(error.hint().is_some());
    assert!(bits(engine.state()) == before);
}
