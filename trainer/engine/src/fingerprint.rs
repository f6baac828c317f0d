//! What a machine's arithmetic gives. Bits depend on kernels, and kernels on libtorch's version, the CPU's instruction
//! sets and the thread count, so it is measured rather than guessed: a small convnet and a small transformer are
//! trained for two steps on fixed inputs, in float32 and bfloat16, and every resulting bit is hashed. Only workers of
//! one fingerprint may share a job whose numerics are exact.

use crate::cells;
use crate::device::{self, Device, Placement};
use crate::error::{Doing, EngineError};
use crate::model::{self, Instance};
use crate::replica::{Recipe, Replica};
use crate::seed::{Purpose, Stream, mix};
use crate::storage::Storage;
use crate::task::{Input, Output, Task};
use crate::torch;
use tch::Tensor;
use trainctl_jobs::{ComputeSpec, ModelSpec, NonFiniteSpec, OptimizerSpec, ScheduleSpec};

/// A machine's numerics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// `blake3:` and 64 hex digits, over libtorch's version, the thread count and every bit of the measurement.
    pub digest: String,
    /// What it was measured on, in words: libtorch's version, instruction set, CPU, threads.
    pub detail: String,
}

const SEED: u64 = 0x7472_6169_6e63_746c;
const SHARDS: u32 = 2;
const STEPS: u64 = 2;
/// Odd, so that kernels' remainders are in it.
const SAMPLES: i64 = 13;

/// Measures what this process computes on the device. Takes about a tenth of a second, on a GPU some more. Kernels for
/// GPUs are chosen by the device's size too, which small products don't show: two kinds of them never have one
/// fingerprint.
///
/// # Errors
/// When libtorch fails.
pub fn fingerprint(device: Device) -> Result<Fingerprint, EngineError> {
    let config = torch::config();
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("libtorch {}, {} thread\n", config.version, torch::THREADS).as_bytes());
    let mut gpu = String::new();
    if let Device::Cuda(number) = device {
        let name = device::name(number);
        hasher.update(format!("cuda {name}\n").as_bytes());
        gpu = format!("cuda ({name}), ");
    }
    measure_all(device.into(), &mut hasher)?;
    Ok(Fingerprint {
        digest: format!("blake3:{}", hasher.finalize().to_hex()),
        detail: format!(
            "libtorch {}, {gpu}cpu {} ({}), {} thread",
            config.version,
            config.cpu_capability,
            cpu_name(),
            torch::THREADS
        ),
    })
}

fn measure_all(placement: Placement, hasher: &mut blake3::Hasher) -> Result<(), EngineError> {
    for compute in [ComputeSpec::Fp32, ComputeSpec::Bf16] {
        measure_convnet(compute, placement, hasher)?;
        measure_gpt(compute, placement, hasher)?;
    }
    Ok(())
}

fn measure_convnet(compute: ComputeSpec, placement: Placement, hasher: &mut blake3::Hasher) -> Result<(), EngineError> {
    let task = Task { input: Input::Features(vec![3, 12, 12]), output: Output::Class { classes: 10 } };
    let model = ModelSpec::Convnet { channels: vec![8, 16], dropout: 0.3 };
    let mut stream = Stream::new(mix(SEED, Purpose::Fingerprint, 0, 0));
    let mut images = Storage::<f32>::zeros(&[SAMPLES, 3, 12, 12]).doing("allocate a batch")?;
    images.as_mut_slice().fill_with(|| stream.normal() as f32);
    let mut classes = Storage::<i64>::zeros(&[SAMPLES]).doing("allocate a batch")?;
    classes.as_mut_slice().fill_with(|| (stream.uniform() * 10.0) as i64);
    measure(task, &model, compute, placement, images.tensor(), classes.tensor(), hasher)
}

fn measure_gpt(compute: ComputeSpec, placement: Placement, hasher: &mut blake3::Hasher) -> Result<(), EngineError> {
    let context = 24;
    let task = Task { input: Input::Tokens { context }, output: Output::NextByte };
    let model = ModelSpec::Gpt { layers: 2, heads: 4, width: 64, context: 24, dropout: 0.1 };
    let mut stream = Stream::new(mix(SEED, Purpose::Fingerprint, 1, 0));
    let mut text = Storage::<i64>::zeros(&[SAMPLES, context + 1]).doing("allocate a batch")?;
    text.as_mut_slice().fill_with(|| (stream.uniform() * 256.0) as i64);
    let input = text.tensor().f_narrow(1, 0, context).doing("allocate a batch")?;
    let target = text.tensor().f_narrow(1, 1, context).doing("allocate a batch")?;
    measure(task, &model, compute, placement, &input, &target, hasher)
}

/// Some steps of training and an evaluation. The buffers are measured as passes leave them, and averaged: what a machine's
/// arithmetic gives does not depend on how a step of a job combines them.
fn measure(
    task: Task,
    model: &ModelSpec,
    compute: ComputeSpec,
    placement: Placement,
    input: &Tensor,
    target: &Tensor,
    hasher: &mut blake3::Hasher,
) -> Result<(), EngineError> {
    let model = model::build(model, &task)?;
    let recipe = Recipe {
        seed: SEED,
        steps: STEPS,
        logical_shards: SHARDS,
        optimizer: OptimizerSpec::default(),
        schedule: ScheduleSpec::Cosine { warmup_steps: 1, floor: 0.1 },
        clip_norm: Some(0.5),
        compute,
        on_nonfinite: NonFiniteSpec::Stop,
        freeze: Vec::new(),
    };
    let mut replica = Replica::new(task, model, recipe, placement)?;
    let mut vector = vec![0f32; replica.vector_len()];
    let buffers = replica.buffers();
    for step in 0..STEPS {
        let mut sum = vec![0f32; replica.vector_len()];
        for shard in 0..SHARDS {
            let seed = mix(SEED, Purpose::Dropout, step, u64::from(shard));
            replica.gradient(Instance::Training, (input, target), seed, cells::of(&mut vector), &mut |_| {})?;
            vector[buffers.clone()].copy_from_slice(replica.buffers_after_pass());
            hasher.update(bytemuck::cast_slice(&vector));
            for (sum, value) in sum.iter_mut().zip(&vector) {
                *sum += value;
            }
        }
        replica.apply(step, &sum)?;
        for (value, sum) in replica.state_mut()[buffers.clone()].iter_mut().zip(&sum[buffers.clone()]) {
            *value = sum / SHARDS as f32;
        }
        hasher.update(bytemuck::cast_slice(replica.state()));
    }
    hasher.update(&replica.score(input, target)?.loss.to_le_bytes());
    Ok(())
}

/// As the kernel names it, where it does.
fn cpu_name() -> String {
    let known = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    known.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_beside_the_state_has_the_states_fingerprint() {
        let digest = |placement| {
            let mut hasher = blake3::Hasher::new();
            measure_all(placement, &mut hasher).expect("measure");
            hasher.finalize()
        };
        assert_eq!(digest(Placement::Beside(tch::Device::Cpu)), digest(Placement::InState));
    }
}
