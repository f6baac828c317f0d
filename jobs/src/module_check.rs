//! What trying a TorchScript module finds out before any worker trains it: the worker program finds it, which has
//! libtorch, and prints it as JSON for the command line.

use serde::{Deserialize, Serialize};

/// The outcome of a check.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleCheck {
    /// It can be trained, as far as was tried.
    Accepted(ModuleContents),
    /// It can't be trained as it is.
    Refused(Refusal),
}

/// What a module holds, and what training does with it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModuleContents {
    /// Parameters that the optimizer updates.
    pub trained: TensorCount,
    /// Parameters that stay as they are: without `requires_grad`, or named by `train.freeze`.
    pub frozen: TensorCount,
    /// All buffers, such as BatchNorm's running statistics.
    pub buffers: TensorCount,
    /// What a batch showed; absent where none was at hand.
    pub trial: Option<ModuleTrial>,
}

/// How many tensors, and how many elements in all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TensorCount {
    /// Tensors.
    pub tensors: u64,
    /// Elements.
    pub elements: u64,
}

impl TensorCount {
    /// One tensor more.
    pub fn add(&mut self, elements: u64) {
        self.tensors += 1;
        self.elements += elements;
    }
}

/// A pass over one micro-batch of the data, forward and backward.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModuleTrial {
    /// Samples of the micro-batch.
    pub samples: u32,
    /// Mean over them, with the file's parameters.
    pub loss: f64,
    /// Buffers, and parameters that are not trained, that a training pass moves.
    pub moving_buffers: Vec<String>,
}

/// Why a module can't be trained.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Where the reason lies.
    pub cause: RefusalCause,
    /// The key of the job, such as `model.path`, where one is meant.
    pub field: Option<String>,
    /// What was expected and what was found.
    pub message: String,
    /// What to do, one clause.
    pub hint: Option<String>,
}

/// Where the reason for a refusal lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// The module, or what the job says of it.
    Job,
    /// The data are not as they were pinned.
    Data,
    /// The machine that tried it.
    Machine,
}
