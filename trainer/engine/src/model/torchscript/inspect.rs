//! What of a module is trained, and what the other tensors that it holds are to training; refusals of modules that can't be
//! trained here.

use super::Role;
use super::module::{Held, Module, Named, digest};
use crate::error::{Doing, EngineError};
use crate::numbers;
use crate::torch;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, TchError, Tensor};

/// Buffers of up to so many elements are part of the state whether a trial pass moves them or not: what a module changes
/// only later, such as the switches of its warm-up, is carried as well.
const CARRIED_MAX: usize = 1 << 16;
/// The second trial pass finds the trained parameters multiplied by this: a copy that follows them stands still while both
/// are equal. Exact in float32, and its result too for most values.
const SHIFT: f64 = 1.015625;

fn refuse(path: &str, expected: &str, found: &str, hint: &'static str) -> EngineError {
    EngineError::Spec { field: "model.path", expected: expected.to_owned(), found: format!("{found} in {path}"), hint }
}

/// A module's tensors, by what they are to training.
pub(super) struct Found {
    /// The parameters that ask for a gradient, in the module's order.
    pub(super) trained: Vec<Named>,
    /// All others, in the module's order.
    pub(super) others: Vec<(Named, Role)>,
}

/// Finds out what is trained, what else moves in a training pass, and what stays. Two passes are tried, the second at slightly
/// other parameters and on other rows; all values are then as the file has them, except what took shape in the first pass.
pub(super) fn inspect(path: &str, module: &mut Module, inputs: [&Tensor; 2]) -> Result<Found, EngineError> {
    let listed = module.tensors().doing("list the module's tensors")?;
    check_parameters(path, &listed)?;
    let tensors = take_shape(module, listed, inputs[0]).doing("compute a first pass")?;
    let (trained, others) = split(tensors);
    let moved = trial_passes(path, module, &trained, &others, inputs)?;
    let others = others
        .into_iter()
        .zip(moved)
        .map(|(named, moved)| {
            let role = if moved { moving(path, &named)? } else { still(path, &named)? };
            Ok((named, role))
        })
        .collect::<Result<_, EngineError>>()?;
    Ok(Found { trained, others })
}

/// Whether it asks for a gradient.
pub(super) fn is_trained(named: &Named) -> bool {
    named.kind == Held::Parameter && named.tensor.requires_grad()
}

/// Refuses a module whose parameters can't be trained.
pub(super) fn check_parameters(path: &str, tensors: &[Named]) -> Result<(), EngineError> {
    if tensors.iter().all(|named| named.kind != Held::Parameter) {
        let hint =
            "export the module itself: torch.jit.freeze and optimize_for_inference turn parameters into constants";
        return Err(refuse(path, "a module with parameters", "none", hint));
    }
    if !tensors.iter().any(is_trained) {
        let hint = "call requires_grad_(True) on what is to be trained before the export";
        return Err(refuse(path, "a parameter with requires_grad", "none", hint));
    }
    let mut places = BTreeMap::new();
    for Named { name, tensor, .. } in tensors.iter().filter(|named| is_trained(named)) {
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
    Ok(())
}

/// A first pass, after which the module's lazy tensors have their shapes, and observers that begin at infinity their first
/// values. All others get their values back.
fn take_shape(module: &mut Module, listed: Vec<Named>, input: &Tensor) -> Result<Vec<Named>, TchError> {
    let _without_graph = tch::no_grad_guard();
    let mut before = BTreeMap::new();
    for Named { name, tensor, .. } in &listed {
        before.insert(name.clone(), tensor.f_detach_copy()?);
    }
    drop(listed);
    // Its random numbers must not come from between another engine's seed and draws.
    let _generator = torch::seeded(0);
    drop(module.first_pass(input)?);
    let mut tensors = module.tensors()?;
    for Named { name, tensor, .. } in &mut tensors {
        let Some(before) = before.get(name) else { continue };
        if before.size() != tensor.size() || before.kind() != tensor.kind() {
            continue;
        }
        let values = if before.is_floating_point() {
            before.f_where_self(&before.f_isfinite()?.f_logical_or(&tensor.f_isfinite()?.f_logical_not()?)?, tensor)?
        } else {
            before.shallow_clone()
        };
        tensor.f_copy_(&values)?;
    }
    Ok(tensors)
}

/// What is trained, and the rest; of several names of one tensor the first.
fn split(tensors: Vec<Named>) -> (Vec<Named>, Vec<Named>) {
    let mut seen = BTreeSet::new();
    let first = |named: &Named| named.tensor.numel() == 0 || seen.insert(named.tensor.data_ptr().addr());
    tensors.into_iter().filter(first).partition(is_trained)
}

/// Which of `others` a training pass moves.
fn trial_passes(
    path: &str,
    module: &mut Module,
    trained: &[Named],
    others: &[Named],
    inputs: [&Tensor; 2],
) -> Result<Vec<bool>, EngineError> {
    const DOING: &str = "compute a trial pass";
    let copies = |of: &[Named]| of.iter().map(|named| named.tensor.f_detach_copy()).collect::<Result<Vec<_>, _>>();
    let parameters = copies(trained).doing(DOING)?;
    let values = copies(others).doing(DOING)?;
    let mut moved = vec![false; others.len()];
    for (pass, input) in inputs.into_iter().enumerate() {
        if pass == 1 {
            let _without_graph = tch::no_grad_guard();
            for named in trained {
                drop(named.tensor.shallow_clone().f_mul_scalar_(SHIFT).doing(DOING)?);
            }
        }
        let expected = trained.iter().map(|named| digest(&named.tensor)).collect::<Result<Vec<_>, _>>().doing(DOING)?;
        {
            let _generator = torch::seeded(pass as u64);
            drop(module.forward(input, true).doing(DOING)?);
        }
        for (named, expected) in trained.iter().zip(expected) {
            if digest(&named.tensor).doing(DOING)? != expected {
                let found = format!("a training pass that writes to {}, which is trained", named.name);
                let hint = "leave parameters to the optimizer; what a pass changes is a buffer, or a parameter with \
                            requires_grad_(False)";
                return Err(refuse(path, "passes that leave parameters as they are", &found, hint));
            }
        }
        for ((named, before), moved) in others.iter().zip(&values).zip(&mut moved) {
            *moved |= module.changed(named.number)
                || digest(&named.tensor).and_then(|now| Ok(now != digest(before)?)).doing(DOING)?;
        }
        let _without_graph = tch::no_grad_guard();
        for (named, before) in trained.iter().chain(others).zip(parameters.iter().chain(&values)) {
            named.tensor.shallow_clone().f_copy_(before).doing(DOING)?;
        }
    }
    Ok(moved)
}

fn moving(path: &str, Named { name, kind, tensor, .. }: &Named) -> Result<Role, EngineError> {
    if *kind == Held::Attribute && tensor.numel() > CARRIED_MAX {
        return Ok(Role::Scratch);
    }
    if numbers::holds(tensor).doing("look at a buffer")? {
        return Ok(Role::Moving { in_trial: true });
    }
    let found = format!("{name}, {:?} of shape {:?}, that training changes", tensor.kind(), tensor.size());
    let hint = "keep what training changes in float32, or in whole numbers of up to 16,777,216";
    Err(refuse(path, "buffers whose values float32 can hold", &found, hint))
}

fn still(path: &str, Named { name, kind, tensor, .. }: &Named) -> Result<Role, EngineError> {
    if *kind == Held::Buffer && name.rsplit('.').next() == Some("running_mean") {
        let found = format!("{name}, which a training pass leaves alone");
        let hint = "use torch.jit.script: torch.jit.trace keeps BatchNorm and dropout in the mode in which it ran them";
        return Err(refuse(path, "running statistics that follow the batches", &found, hint));
    }
    let carried = *kind == Held::Buffer && (1..=CARRIED_MAX).contains(&tensor.numel());
    if carried && numbers::holds(tensor).doing("look at a buffer")? {
        return Ok(Role::Moving { in_trial: false });
    }
    Ok(Role::Constant)
}
