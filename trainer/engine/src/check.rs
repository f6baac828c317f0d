//! A module of the user's, tried before anything is bought: loaded as a worker loads it, and trained for one step on a
//! micro-batch.

use crate::cells;
use crate::device::Device;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::model::torchscript::contents::Contents;
use trainctl_checkpoint::{Group, TensorInfo};
use trainctl_data::Dataset;
use trainctl_jobs::{JobSpec, ModelSpec, ModuleContents, ModuleTrial, TensorCount};

/// Loads the module at `path`, whose bytes have this digest, and says what it holds. Nothing is computed.
///
/// # Errors
/// [`EngineError::Spec`] for a file that is not the pinned one, and for a module that no job could train.
pub fn check_module(path: &str, digest: &str) -> Result<ModuleContents, EngineError> {
    Ok(described(&Contents::load(path, digest)?, &[], None))
}

/// The same, and trains the job's module for one step on a micro-batch of `data`, as its first worker would, with one
/// logical shard instead of all.
///
/// # Errors
/// As [`check_module`], and whatever else ends a job at its start or in its first step.
///
/// # Panics
/// For a job whose model is a built-in one.
pub fn try_module(spec: &JobSpec, data: Dataset, device: Device) -> Result<ModuleContents, EngineError> {
    let ModelSpec::Torchscript { path, digest, .. } = &spec.model else { panic!("a built-in model is not loaded") };
    let contents = Contents::load(path, digest)?;
    let mut spec = spec.clone();
    let samples = spec.train.global_batch / spec.train.logical_shards.max(1);
    (spec.train.global_batch, spec.train.logical_shards) = (samples, 1);
    let mut engine = Engine::new(&spec, data, device)?;
    let mut vector = vec![0.0; engine.train_len()];
    engine.train_shard(0, 0, cells::of(&mut vector), &mut |_| {})?;
    // What no trial pass moved may be absent from checkpoints.
    let moved = |tensor: &&TensorInfo| tensor.group == Group::Model && !tensor.constant && tensor.absent.is_none();
    let moved: Vec<&str> = engine.tensors().iter().filter(moved).map(|tensor| tensor.name.as_str()).collect();
    let untrained = contents.buffers.iter().chain(&contents.fixed).map(|(name, _)| name);
    let moving_buffers = untrained.filter(|name| moved.contains(&name.as_str())).cloned().collect();
    let loss = f64::from(engine.apply(0, &vector)?.loss);
    Ok(described(&contents, &spec.train.freeze, Some(ModuleTrial { samples, loss, moving_buffers })))
}

/// `freeze` fits the module's parameters, or nothing was tried.
fn described(contents: &Contents, freeze: &[String], trial: Option<ModuleTrial>) -> ModuleContents {
    let names: Vec<&str> = contents.trained.iter().map(|(name, _)| name.as_str()).collect();
    let held = trainctl_jobs::frozen(freeze, &names).unwrap_or_else(|_| vec![false; names.len()]);
    let (mut trained, mut frozen) = (TensorCount::default(), count(&contents.fixed));
    for ((_, elements), held) in contents.trained.iter().zip(held) {
        if held { frozen.add(*elements) } else { trained.add(*elements) }
    }
    ModuleContents { trained, frozen, buffers: count(&contents.buffers), trial }
}

fn count(tensors: &[(String, u64)]) -> TensorCount {
    let mut count = TensorCount::default();
    tensors.iter().for_each(|(_, elements)| count.add(*elements));
    count
}
