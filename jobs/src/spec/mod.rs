//! The types of a job spec. Their documentation is the reference that users read; their bounds are attributes, so that
//! parser and reference have them from one place.

mod model;
mod placement;
mod train;

pub use model::ModelSpec;
pub use placement::{
    BackendSpec, CheckpointEvery, CheckpointSpec, EncryptionSpec, OnDemandSpec, PeerSilence, PolicySpec, ResourcesSpec,
    ShardsSpec, WorkersSpec,
};
pub use train::{
    AuditSpec, ComputeSpec, LossSpec, NonFiniteSpec, NumericsSpec, OptimizerSpec, ScheduleSpec, TrainSpec,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job: one training run, from its first step to its last.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Unique among the coordinator's jobs, and the folder below `checkpoint.root`. Lower-case letters, digits, `-`.
    #[schemars(extend("format" = "job-name"))]
    pub name: String,
    /// What it trains on.
    pub data: DataSpec,
    /// What it trains.
    pub model: ModelSpec,
    /// How it trains.
    pub train: TrainSpec,
    /// Where it may run.
    #[serde(default)]
    pub resources: ResourcesSpec,
    /// Where its state is kept.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// What it may cost and when it must be done.
    #[serde(default)]
    pub policy: PolicySpec,
}

/// `[data]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The manifest that `trainctl data pin` wrote: a path, `s3://bucket/path` or `gs://bucket/path`.
    #[schemars(length(min = 1))]
    pub manifest: String,
    /// Of the manifest's bytes; `trainctl data pin` prints it, `trainctl data show` again.
    #[schemars(extend("format" = "blake3-digest"))]
    pub digest: String,
    /// Share of the samples kept out of training for evaluation.
    #[serde(default = "default_held_out")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub held_out: f64,
    /// Chooses which samples are held out; apart from `train.seed`, so that seeds can be compared.
    #[serde(default)]
    pub held_out_seed: u64,
}

fn default_held_out() -> f64 {
    0.1
}
