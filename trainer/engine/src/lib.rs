//! The arithmetic of a training step: models, gradients, optimizers and evaluation over one flat state buffer.
//!
//! A step is a pure function of the state and the pinned inputs. [`Engine::train_shard`] turns one logical shard
//! into a vector of float32, whoever computes it and when; the caller sums the vectors of all shards in its fixed
//! order; [`Engine::apply`] turns the sum into the next state. Who computes which shard, how vectors travel and when
//! a checkpoint is taken is decided elsewhere.

mod batch;
mod cells;
mod check;
mod device;
mod engine;
mod error;
mod fingerprint;
mod gradients;
mod layout;
mod mirror;
mod model;
mod norm;
mod numbers;
mod optimizer;
mod replica;
mod schedule;
mod seed;
mod skips;
mod storage;
mod task;
mod torch;
mod trial;

pub use check::{check_module, try_module};
pub use device::{Device, Wanted};
pub use engine::{Engine, Evaluation};
pub use error::{EngineError, Libtorch, NotFinite};
pub use fingerprint::{Fingerprint, fingerprint};
pub use model::torchscript::export_torchscript;
pub use replica::StepStats;

/// Version of the libtorch that is loaded, `2.13.0+cu130`.
#[must_use]
pub fn libtorch_version() -> String {
    torch::config().version
}
