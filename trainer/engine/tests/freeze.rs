//! `train.freeze`: what it names stays bitwise as it was and costs neither gradient nor slots.

mod common;

use common::{Fixture, bits, digest, train, vector};
use trainctl_checkpoint::{Group, TensorInfo};
use trainer_engine::{Device, Engine, EngineError};

const CASES: [(&str, &str); 4] =
    [("mlp", "layers.0.*"), ("convnet", "blocks.?.conv.*"), ("gpt", "blocks.0.*"), ("conv.pt", "conv.*")];

fn freezing(model: &str, pattern: &str) -> Fixture {
    let mut fixture = Fixture::new(model);
    fixture.spec.train.freeze = vec![pattern.to_owned()];
    fixture
}

fn named<'a>(engine: &'a Engine, name: &str) -> &'a TensorInfo {
    engine.tensors().iter().find(|tensor| tensor.group == Group::Model && tensor.name == name).expect("a tensor")
}

fn frozen(engine: &Engine) -> Vec<TensorInfo> {
    engine.tensors().iter().filter(|tensor| tensor.constant).cloned().collect()
}

#[test]
fn frozen_parameters_keep_their_bits_and_the_others_are_trained() {
    for (model, pattern) in CASES {
        let mut engine = freezing(model, pattern).engine();
        let frozen = frozen(&engine);
        assert!(!frozen.is_empty(), "{model}");
        let before = engine.state().to_vec();
        train(&mut engine, 0..6, false);
        // A parameter that no output depends on stays as well, and a buffer that no pass moves.
        let stays = |tensor: &TensorInfo| ["unused", "order"].contains(&tensor.name.as_str());
        let trained = |tensor: &&TensorInfo| tensor.group == Group::Model && !stays(tensor);
        for tensor in engine.tensors().iter().filter(trained) {
            let kept = bits(tensor.values(&before)) == bits(tensor.values(engine.state()));
            assert_eq!(kept, tensor.constant, "{model}: {}", tensor.name);
        }
        let without_slots = |name: &str| !engine.tensors().iter().any(|t| t.name.ends_with(&format!("exp_avg.{name}")));
        assert!(frozen.iter().all(|tensor| without_slots(&tensor.name)), "{model}");
    }
}

#[test]
fn they_start_as_they_would_otherwise_and_the_rest_has_the_gradient_it_would_have() {
    for (model, pattern) in CASES {
        let mut whole = Fixture::new(model).engine();
        let mut part = freezing(model, pattern).engine();
        assert!(part.train_len() < whole.train_len(), "{model}");
        let (ours, theirs) = (vector(&mut part, 0, 3), vector(&mut whole, 0, 3));
        for tensor in part.tensors().iter().filter(|tensor| tensor.group == Group::Model) {
            let other = named(&whole, &tensor.name);
            assert!(bits(tensor.values(part.state())) == bits(other.values(whole.state())), "{model}: {}", tensor.name);
            let end = tensor.offset + tensor.len;
            if !tensor.constant && end < ours.len() - 16 {
                let gradient = &theirs[other.offset..other.offset + other.len];
                assert!(bits(&ours[tensor.offset..end]) == bits(gradient), "{model}: {}", tensor.name);
            }
        }
    }
}

#[test]
fn the_order_of_the_shards_does_not_matter() {
    for (model, pattern) in CASES {
        let fixture = freezing(model, pattern);
        let (mut one, mut other) = (fixture.engine(), fixture.engine());
        train(&mut one, 0..8, false);
        train(&mut other, 0..8, true);
        assert_eq!(digest(&one, 8), digest(&other, 8), "{model}");
    }
}

#[test]
fn a_pattern_that_fits_none_of_a_modules_parameters_is_refused_with_their_names() {
    let fixture = freezing("plain.pt", "encoder.*");
    let Err(error @ EngineError::Spec { .. }) = Engine::new(&fixture.spec, fixture.data(), Device::Cpu) else {
        panic!("taken")
    };
    let text = error.to_string();
    assert!(text.starts_with("train.freeze: expected patterns that fit a parameter of the model: "), "{text}");
    assert!(text.contains(".weight, ") && text.ends_with("found \"encoder.*\", which fits none"), "{text}");
}
