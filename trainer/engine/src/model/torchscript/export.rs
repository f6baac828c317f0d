//! A trained module as a file: the exported one with a checkpoint's parameters and buffers in it, for programs that
//! serve TorchScript.

use super::file;
use super::module::{Held, Module, Named};
use crate::error::{Doing, EngineError, without_stack};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Loads the module at `path`, whose bytes have this digest, puts the tensors of the safetensors file `weights` into it,
/// and writes it to `output`. What the checkpoint doesn't hold stays as it was exported.
///
/// # Errors
/// [`EngineError::Spec`] for a file that is not the pinned one and for weights of another module; else what libtorch
/// could not do.
pub fn export_torchscript(path: &str, digest: &str, weights: &Path, output: &Path) -> Result<(), EngineError> {
    let mut module =
        Module::load(&file::read(path, digest)?).map_err(|error| file::not_loaded(path, without_stack(error)))?;
    let tensors = module.tensors().doing("list the module's tensors")?;
    let mut values: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(weights).doing("read the checkpoint's tensors")?.into_iter().collect();
    let _without_graph = tch::no_grad_guard();
    for Named { name, kind, mut tensor, .. } in tensors {
        let Some(value) = values.remove(&name) else { continue };
        if value.size() != tensor.size() {
            if kind == Held::Parameter {
                let expected = format!("{name} of shape {:?}", tensor.size());
                return Err(foreign(expected, format!("shape {:?} in the checkpoint", value.size())));
            }
            // Such as an observer's ranges, which take shape in the first pass.
            drop(tensor.f_resize_(value.size()).doing("give a buffer its shape")?);
        }
        let value = if tensor.is_floating_point() { value } else { value.f_round().doing("round a whole number")? };
        tensor.f_copy_(&value).doing("put a tensor into the module")?;
    }
    if let Some(name) = values.keys().next() {
        return Err(foreign(format!("a module with the checkpoint's tensor {name}"), format!("none in {path}")));
    }
    module.save(output).doing("write the module")
}

fn foreign(expected: String, found: String) -> EngineError {
    let hint = "the checkpoint is of another module: use the one that the run's job names";
    EngineError::Spec { field: "model.path", expected, found, hint }
}
