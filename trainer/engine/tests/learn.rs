//! Models learn, in both kinds of arithmetic.

mod common;

use common::{Fixture, evaluate, train};

#[test]
fn classifiers_learn_patterns() {
    for model in ["mlp", "convnet", "mlp-bf16", "convnet-bf16"] {
        let mut engine = Fixture::new(model).engine();
        let before = evaluate(&mut engine);
        train(&mut engine, 0..60, false);
        let after = evaluate(&mut engine);
        assert!(after.loss < 0.2 * before.loss, "{model}: {before:?} {after:?}");
        assert!(after.accuracy.is_some_and(|share| share >= 0.95), "{model}: {after:?}");
    }
}

#[test]
fn a_gpt_learns_words() {
    for model in ["gpt", "gpt-bf16"] {
        let mut fixture = Fixture::new(model);
        fixture.spec.train.steps = Some(150);
        let mut engine = fixture.engine();
        let before = evaluate(&mut engine);
        // The logarithm of 256: it starts without an opinion.
        assert!((before.loss - 5.545).abs() < 0.1, "{model}: {before:?}");
        train(&mut engine, 0..150, false);
        let after = evaluate(&mut engine);
        // Letters by their frequency alone would leave 2.8.
        assert!(after.loss < 1.2, "{model}: {before:?} {after:?}");
    }
}

#[test]
fn regression_learns_a_plane() {
    let mut engine = Fixture::new("mse").engine();
    let before = evaluate(&mut engine);
    train(&mut engine, 0..60, false);
    let after = evaluate(&mut engine);
    assert_eq!(after.accuracy, None);
    assert!(after.loss < 0.05 * before.loss, "{before:?} {after:?}");
}
