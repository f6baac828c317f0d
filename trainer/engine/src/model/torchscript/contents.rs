//! The tensors of an exported module by name and size, before any pass over it.

use super::file;
use super::inspect;
use super::module::{Held, Module, Named};
use crate::error::{Doing, EngineError, without_stack};

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
        let mut module = Module::load(&bytes).map_err(|error| file::not_loaded(path, without_stack(error)))?;
        let tensors = module.tensors().doing("list the module's tensors")?;
        inspect::check_parameters(path, &tensors)?;
        let of = |wanted: fn(&Named) -> bool| {
            let size = |named: &Named| (named.name.clone(), named.tensor.numel() as u64);
            tensors.iter().filter(|named| wanted(named)).map(size).collect()
        };
        Ok(Self {
            trained: of(inspect::is_trained),
            fixed: of(|named| named.kind == Held::Parameter && !inspect::is_trained(named)),
            buffers: of(|named| named.kind == Held::Buffer),
        })
    }
}
