//! The gradient's way into the caller's vector: when which part is final, and sums over shards in one vector.

mod common;

use common::{Fixture, bits, cells, vector};
use std::panic::{AssertUnwindSafe, catch_unwind};
use trainctl_checkpoint::Group;

const MODELS: [&str; 5] = ["mlp", "convnet", "gpt", "conv.pt", "text.pt"];

/// What is said during a pass, with the bits of the part that is final at that moment, and the whole vector in the end.
fn watched(model: &str) -> (Vec<(usize, Vec<u32>)>, Vec<u32>) {
    let mut engine = Fixture::new(model).engine();
    let mut out = vec![f32::NAN; engine.train_len()];
    let vector = cells(&mut out);
    let mut heard = Vec::new();
    let mut ready = |from: usize| {
        heard.push((from, vector[from..].iter().map(|cell| cell.get().to_bits()).collect()));
    };
    engine.train_shard(0, 1, vector, &mut ready).expect("train a shard");
    (heard, bits(&out))
}

#[test]
fn what_is_said_to_be_final_is_and_comes_from_the_end() {
    for model in MODELS {
        let (heard, whole) = watched(model);
        assert!(heard.windows(2).all(|pair| pair[0].0 > pair[1].0), "{model}: ever lower");
        assert_eq!(heard.last().map(|(from, _)| *from), Some(0), "{model}: the whole in the end");
        for (from, tail) in &heard {
            assert!(*tail == whole[*from..], "{model}: what is final from {from} on");
        }
        assert!(heard.len() > 3, "{model}: in parts, found {}", heard.len());
    }
}

#[test]
fn buffers_and_loss_are_final_before_the_backward_pass() {
    let (heard, _) = watched("convnet");
    let engine = Fixture::new("convnet").engine();
    let parameters = engine.tensors().iter().find(|t| t.name.ends_with("running_mean")).expect("a buffer").offset;
    assert_eq!(heard[0].0, parameters);
    let first_kernel = engine.tensors().iter().find(|t| t.group == Group::Model).expect("a parameter");
    assert_eq!(heard[heard.len() - 1].0, first_kernel.offset);
}

#[test]
fn a_panic_while_listening_comes_out_when_the_pass_is_over_and_the_engine_goes_on() {
    let mut engine = Fixture::new("gpt").engine();
    let expected = bits(&vector(&mut engine, 0, 0));
    let mut out = vec![0f32; engine.train_len()];
    let mut calls = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        engine.train_shard(0, 0, cells(&mut out), &mut |_| {
            calls += 1;
            assert!(calls < 3, "enough");
        })
    }));
    let message = outcome.expect_err("the panic");
    assert!(message.downcast_ref::<&str>().is_some_and(|text| text.contains("enough")));
    assert_eq!(calls, 3, "nothing is said after the panic");
    assert!(bits(&vector(&mut engine, 0, 0)) == expected);
}
