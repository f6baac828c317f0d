//! The job spec: what a user writes in `job.toml`, parsed once into types that can't be wrong.
//!
//! [`parse`] finds everything that is wrong with a job file at once. [`JobSpec::resolve`] puts to it what only the data
//! set can tell. [`reference_markdown`] writes the reference for users from the types themselves.

mod error;
mod freeze;
mod module_check;
mod module_file;
mod parse;
mod reference;
mod resolve;
mod rules;
mod schema;
mod set;
mod spec;
mod structure;
mod text_format;
mod tree;

pub use error::{Place, SpecError, SpecErrors};
pub use freeze::{FreezeMisfit, frozen};
pub use module_check::{ModuleCheck, ModuleContents, ModuleTrial, Refusal, RefusalCause, TensorCount};
pub use module_file::{ModuleFile, Pickled};
pub use parse::parse;
pub use reference::reference_markdown;
pub use resolve::{DataFacts, TargetFacts};
pub use set::apply_set;
pub use spec::*;
