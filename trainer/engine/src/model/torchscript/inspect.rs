//! What of a module is trained, and what its buffers are to training; refusals of modules that can't be trained here.

use super::Role;
use super::module::{Module, Named};
use crate::error::{Doing, EngineError};
use crate::torch;
use std::collections::BTreeMap;
use tch::{Kind, TchError, Tensor};

/// The largest whole number up to which float32 has all of them.
const COUNT_MAX: i64 = 1 << 24;

fn refuse(path: &str, expected: &str, found: &str, hint: &'static str) -> EngineError {
    EngineError::Spec { field: "model.path", expected: expected.to_owned(), found: format!("{found} in {path}"), hint }
}

/// The parameters that ask for a gradient.
pub(super) fn trainable(path: &str, parameters: Vec<Named>) -> Result<Vec<Named>, EngineError> {
    if parameters.is_empty() {
        let hint =
            "export the module itself: torch.jit.freeze and optimize_for_inference turn parameters into constants";
        return Err(refuse(path, "a module with parameters", "none", hint));
    }
    let trained: Vec<Named> = parameters.into_iter().filter(|named| named.tensor.requires_grad()).collect();
    if trained.is_empty() {
        let hint = "call requires_grad_(True) on what is to be trained before the export";
        return Err(refuse(path, "a parameter with requires_grad", "none", hint));
    }
    let mut places = BTreeMap::new();
    for Named { name, tensor } in &trained {
        if tensor.kind() != Kind::Float {
            let found = format!("{:?} in {name}", tensor.kind());
            let hint = "call module.float() before the export, and cast in forward";
            return Err(refuse(path, "float32 parameters", &found, hint));
        }
        if tensor.numel() == 0 {
            continue;
        }
        if let Some(other) = places.insert(tensor.data_ptr().addr(), name) {
            let found = format!("one tensor that is both {other} and {name}");
            let hint = "keep it as one parameter and use that in both places of forward";
            return Err(refuse(path, "parameters that share no memory", &found, hint));
        }
    }
    Ok(trained)
}

/// What each buffer is to training, found by a training pass; their values are then as before it.
pub(super) fn roles(
    path: &str,
    module: &mut Module,
    buffers: Vec<Named>,
    input: &Tensor,
) -> Result<Vec<(Named, Role)>, EngineError> {
    let mut run = || -> Result<Vec<Tensor>, TchError> {
        let _without_graph = tch::no_grad_guard();
        // Its random numbers must not come from between another engine's seed and draws.
        let _generator = torch::seeded(0);
        let before = buffers.iter().map(|named| named.tensor.f_detach_copy()).collect::<Result<Vec<_>, _>>()?;
        drop(module.forward(input, true)?);
        Ok(before)
    };
    let before = run().doing("compute a first pass of the module at model.path")?;
    let mut found = Vec::new();
    for (i, (mut named, before)) in buffers.into_iter().zip(before).enumerate() {
        let same = named.tensor.f_equal(&before).doing("compare a buffer")?;
        let role = if module.changed(i) || !same { moved(path, &named, &before)? } else { still(path, &named)? };
        let _without_graph = tch::no_grad_guard();
        named.tensor.f_copy_(&before).doing("restore a buffer")?;
        found.push((named, role));
    }
    Ok(found)
}

fn moved(path: &str, Named { name, tensor }: &Named, before: &Tensor) -> Result<Role, EngineError> {
    if tensor.kind() == Kind::Float {
        return Ok(Role::Moving);
    }
    if tensor.kind() == Kind::Int64 && tensor.numel() == 1 {
        let value = |tensor: &Tensor| tensor.int64_value(&vec![0; tensor.dim()]);
        if value(tensor) == value(before) + 1 && (0..COUNT_MAX).contains(&value(before)) {
            return Ok(Role::Counter);
        }
    }
    let found = format!("{name}, {:?} of shape {:?}, that training changes", tensor.kind(), tensor.size());
    let hint = "keep what training changes in float32, or as one int64 that each pass raises by one";
    Err(refuse(path, "float32 buffers and counters", &found, hint))
}

fn still(path: &str, Named { name, .. }: &Named) -> Result<Role, EngineError> {
    if name.rsplit('.').next() == Some("running_mean") {
        let found = format!("{name}, which a training pass leaves alone");
        let hint = "use torch.jit.script: torch.jit.trace keeps BatchNorm and dropout in the mode in which it ran them";
        return Err(refuse(path, "running statistics that follow the batches", &found, hint));
    }
    Ok(Role::Constant)
}
