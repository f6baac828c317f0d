//! Our optimizers against libtorch's own, on the same gradients.

mod common;

use common::Fixture;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Tensor};
use trainctl_checkpoint::{Group, TensorInfo};
use trainctl_jobs::{OptimizerSpec, ScheduleSpec};
use trainer_engine::Engine;

const STEPS: u64 = 12;
const DECAY: f64 = 0.05;
/// Parameter groups: weight decay is for tensors of two or more dimensions.
const DECAYS: usize = 1;

/// Trains the same parameters with both on made-up gradients, and returns the largest difference.
fn largest_difference(spec: OptimizerSpec, theirs: impl Fn(&nn::VarStore) -> nn::Optimizer) -> f64 {
    let mut fixture = Fixture::new("mlp");
    fixture.spec.train.optimizer = spec;
    fixture.spec.train.schedule = ScheduleSpec::Constant { warmup_steps: 0 };
    fixture.spec.train.clip_norm = None;
    let mut engine = fixture.engine();

    let store = nn::VarStore::new(Device::Cpu);
    let parameters: Vec<TensorInfo> = engine.tensors().iter().filter(|t| t.group == Group::Model).cloned().collect();
    let variables: Vec<Tensor> = parameters.iter().map(|tensor| variable(&store, &engine, tensor)).collect();
    let mut optimizer = theirs(&store);

    let shards = fixture.spec.train.logical_shards as f32;
    for step in 0..STEPS {
        let mut sum = vec![0f32; engine.train_len()];
        optimizer.zero_grad();
        for (at, variable) in parameters.iter().zip(&variables) {
            // Some elements never get a gradient, some get ones of very different size.
            let gradient: Vec<f32> =
                (0..at.len).map(|i| ((i as f32 + step as f32) * 0.7).sin() * (i % 5) as f32 * 0.01).collect();
            for (sum, value) in sum[at.offset..].iter_mut().zip(&gradient) {
                *sum = value * shards;
            }
            (variable * Tensor::from_slice(&gradient).view_as(variable)).sum(tch::Kind::Float).backward();
        }
        engine.apply(step, &sum).expect("apply the gradient");
        optimizer.step();
    }
    let difference = |(at, variable): (&TensorInfo, &Tensor)| {
        let ours = Tensor::from_slice(&engine.state()[at.offset..at.offset + at.len]).view_as(variable);
        (ours - variable).abs().max().double_value(&[])
    };
    parameters.iter().zip(&variables).map(difference).fold(0.0, f64::max)
}

fn variable(store: &nn::VarStore, engine: &Engine, at: &TensorInfo) -> Tensor {
    let shape: Vec<i64> = at.shape.iter().map(|&n| n as i64).collect();
    let root = store.root().set_group(if shape.len() >= 2 { DECAYS } else { 0 });
    let mut variable = root.zeros(&at.name.replace('.', "_"), &shape);
    let first = Tensor::from_slice(&engine.state()[at.offset..at.offset + at.len]).view(shape.as_slice());
    tch::no_grad(|| variable.copy_(&first));
    variable
}

#[test]
fn adamw_is_libtorchs() {
    for weight_decay in [0.0, DECAY] {
        let spec = OptimizerSpec::Adamw { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay };
        let difference = largest_difference(spec, |store| {
            let config = nn::AdamW { beta1: 0.9, beta2: 0.99, wd: 0.0, eps: 1e-8, amsgrad: false };
            let mut optimizer = config.build(store, 0.01).expect("build AdamW");
            optimizer.set_weight_decay_group(DECAYS, weight_decay);
            optimizer
        });
        assert!(difference < 2e-6, "weight decay {weight_decay}: {difference}");
    }
}

#[test]
fn sgd_is_libtorchs() {
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        for weight_decay in [0.0, DECAY] {
            let spec = OptimizerSpec::Sgd { lr: 0.1, momentum, nesterov, weight_decay };
            let difference = largest_difference(spec, |store| {
                let config = nn::Sgd { momentum, dampening: 0.0, wd: 0.0, nesterov };
                let mut optimizer = config.build(store, 0.1).expect("build SGD");
                optimizer.set_weight_decay_group(DECAYS, weight_decay);
                optimizer
            });
            assert!(difference < 2e-6, "momentum {momentum}, {nesterov}, weight decay {weight_decay}: {difference}");
        }
    }
}

#[test]
fn clipping_scales_the_whole_gradient_to_the_norm() {
    let mut fixture = Fixture::new("mlp");
    fixture.spec.train.optimizer = OptimizerSpec::Sgd { lr: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    fixture.spec.train.schedule = ScheduleSpec::Constant { warmup_steps: 0 };
    fixture.spec.train.clip_norm = Some(0.5);
    let mut engine = fixture.engine();
    let before = engine.state().to_vec();
    let mut sum = vec![0f32; engine.train_len()];
    let shards = fixture.spec.train.logical_shards as f32;
    (sum[0], sum[1]) = (3.0 * shards, -4.0 * shards);
    let stats = engine.apply(0, &sum).expect("apply the gradient");
    assert!((stats.grad_norm - 5.0).abs() < 1e-9, "{stats:?}");
    let moved = [engine.state()[0] - before[0], engine.state()[1] - before[1]];
    assert!((moved[0] + 0.3).abs() < 1e-6 && (moved[1] - 0.4).abs() < 1e-6, "{moved:?}");
}
