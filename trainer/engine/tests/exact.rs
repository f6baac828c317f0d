//! The same bits, whoever computes a shard and when.

mod common;

use common::{Fixture, SHARDS, bits, digest, evaluate, in_another_process, report, train, vector};

const MODELS: [&str; 13] = [
    "mlp",
    "convnet",
    "gpt",
    "mlp-bf16",
    "convnet-bf16",
    "gpt-bf16",
    "conv.pt",
    "text.pt",
    "counted.pt",
    "momentum.pt",
    "through.pt",
    "late.pt",
    "quantised.pt",
];

#[test]
fn a_shard_has_the_same_bits_first_or_last_and_in_another_engine() {
    for model in MODELS {
        let fixture = Fixture::new(model);
        let mut first = fixture.engine();
        train(&mut first, 0..2, false);
        let forwards: Vec<_> = (0..SHARDS).map(|shard| bits(&vector(&mut first, 2, shard))).collect();
        let again = bits(&vector(&mut first, 2, 0));
        assert!(again == forwards[0], "{model}: shard 0 after the others");

        let mut second = fixture.engine();
        second.state_mut().copy_from_slice(first.state());
        for shard in (0..SHARDS).rev() {
            assert!(bits(&vector(&mut second, 2, shard)) == forwards[shard as usize], "{model}: shard {shard}");
        }
    }
}

#[test]
fn shards_and_steps_differ_from_each_other() {
    for model in MODELS {
        let mut engine = Fixture::new(model).engine();
        let vectors = [(0, 0), (0, 1), (1, 0)].map(|(step, shard)| bits(&vector(&mut engine, step, shard)));
        assert!(vectors[0] != vectors[1] && vectors[0] != vectors[2] && vectors[1] != vectors[2], "{model}");
    }
}

#[test]
fn two_processes_end_with_the_same_bits_whatever_is_on_their_heaps() {
    for model in MODELS {
        let fixture = Fixture::new(model);
        let mut engine = fixture.engine();
        train(&mut engine, 0..30, false);
        let evaluation = evaluate(&mut engine);
        let ours = format!("{} {:x}", digest(&engine, 30), evaluation.loss.to_bits());
        let theirs = in_another_process("thirty_steps_backwards", &[("FIXTURE", model), ("OMP_NUM_THREADS", "2")]);
        assert_eq!(ours, theirs, "{model}");
    }
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn thirty_steps_backwards() {
    let Ok(model) = std::env::var("FIXTURE") else { return };
    // Of odd sizes, so that nothing lies where it lies in the other process.
    let heap: Vec<tch::Tensor> =
        (1..60).map(|i| tch::Tensor::ones([i * 1237], (tch::Kind::Float, tch::Device::Cpu))).collect();
    let mut engine = Fixture::new(&model).engine();
    drop(heap.into_iter().step_by(3).collect::<Vec<_>>());
    train(&mut engine, 0..30, true);
    let evaluation = evaluate(&mut engine);
    report(&format!("{} {:x}", digest(&engine, 30), evaluation.loss.to_bits()));
}

#[test]
fn a_step_computed_again_gives_the_same_state() {
    let mut engine = Fixture::new("convnet").engine();
    train(&mut engine, 0..3, false);
    let before = engine.state().to_vec();
    train(&mut engine, 3..4, false);
    let after = bits(engine.state());
    engine.state_mut().copy_from_slice(&before);
    evaluate(&mut engine);
    train(&mut engine, 3..4, true);
    assert!(bits(engine.state()) == after);
}

#[test]
fn a_state_taken_over_by_another_engine_goes_on_as_the_first_would() {
    for model in MODELS {
        let fixture = Fixture::new(model);
        let mut donor = fixture.engine();
        train(&mut donor, 0..5, false);
        let mut joiner = fixture.engine();
        joiner.state_mut().copy_from_slice(donor.state());
        train(&mut donor, 5..8, false);
        train(&mut joiner, 5..8, true);
        assert_eq!(digest(&donor, 8), digest(&joiner, 8), "{model}");
    }
}

#[test]
fn the_initial_state_follows_from_the_seed() {
    let fixture = Fixture::new("gpt");
    assert_eq!(digest(&fixture.engine(), 0), digest(&fixture.engine(), 0));
    let mut other = Fixture::new("gpt");
    other.spec.train.seed += 1;
    assert_ne!(digest(&fixture.engine(), 0), digest(&other.engine(), 0));
}

#[test]
fn tensors_are_aligned_and_what_lies_between_stays_zero() {
    for model in MODELS {
        let mut engine = Fixture::new(model).engine();
        train(&mut engine, 0..3, false);
        let mut is_tensor = vec![false; engine.state().len()];
        for tensor in engine.tensors() {
            assert!(tensor.offset.is_multiple_of(16), "{model}: {} at {}", tensor.name, tensor.offset);
            assert_eq!(tensor.len, tensor.shape.iter().product::<usize>(), "{model}: {}", tensor.name);
            is_tensor[tensor.offset..tensor.offset + tensor.len].fill(true);
        }
        let state = engine.state();
        assert!(is_tensor.iter().zip(state).all(|(is_tensor, value)| *is_tensor || value.to_bits() == 0), "{model}");
        trainctl_checkpoint::check_layout(engine.tensors(), state.len()).expect("a layout that can be saved");
    }
}

#[test]
fn running_statistics_are_the_mean_over_the_shards() {
    let mut engine = Fixture::new("convnet").engine();
    let find = |engine: &trainer_engine::Engine, name: &str| {
        let at = engine.tensors().iter().find(|tensor| tensor.name == name).expect("a buffer").clone();
        engine.state()[at.offset..at.offset + at.len].to_vec()
    };
    let parameters_len = engine.tensors().iter().find(|t| t.name.ends_with("running_mean")).expect("a buffer").offset;
    let vectors: Vec<_> = (0..SHARDS).map(|shard| vector(&mut engine, 0, shard)).collect();
    assert!(
        find(&engine, "blocks.0.norm.running_mean").iter().all(|&mean| mean == 0.0),
        "shards leave the state alone"
    );
    engine.apply(0, &common::tree_sum(vectors.clone())).expect("apply the sum");
    for (i, &mean) in find(&engine, "blocks.0.norm.running_mean").iter().enumerate() {
        let expected = vectors.iter().map(|v| f64::from(v[parameters_len + i])).sum::<f64>() / f64::from(SHARDS);
        assert!(mean != 0.0 && (f64::from(mean) - expected).abs() < 1e-6, "channel {i}: {mean} {expected}");
    }
}
