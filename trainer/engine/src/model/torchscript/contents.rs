//! The tensors of an exported module by name and size, before any pass over it.

use super::file;
use super::inspect;
use super::module::{Module, Named};
use crate::error::{EngineError, without_stack};

/// Names and counts of elements, each list in the module's own order.
pub(crate) struct Contents {
    /// Parameters that ask for a gradient.
    pub(crate) trained: Vec<(String, u64)>,
    /// Parameters that don't.
    pub(crate) fixed: Vec<(String, u64)>,
    pub(crate) buffers: Vec<(String, u64)>,
}

impl Contents {
    /// Loads the module at `path`, whose bytes have this digest.
    ///
    /// # Errors
    /// [`EngineError::Spec`] for a file that is not the pinned one, and for parameters that can't be trained.
    pub(crate) fn load(path: &str, digest: &str) -> Result<Self, EngineError> {
        let bytes = file::read(path, digest)?;
        // The tensors are the module's: it has to live as long.
        let (_module, tensors) = Module::load(&bytes).map_err(|error| file::not_loaded(path, without_stack(error)))?;
        let buffers = sizes(&tensors.buffers);
        let mut fixed = sizes(&tensors.parameters);
        let trained = sizes(&inspect::trainable(path, tensors.parameters)?);
        fixed.retain(|tensor| !trained.contains(tensor));
        Ok(Self { trained, fixed, buffers })
    }
}

fn sizes(tensors: &[Named]) -> Vec<(String, u64)> {
    tensors.iter().map(|named| (named.name.clone(), named.tensor.numel() as u64)).collect()
}
