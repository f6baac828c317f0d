//! How a job trains.

use super::placement::count_of_steps;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[train]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Parameters, sample order and dropout follow from it.
    #[serde(default)]
    pub seed: u64,
    /// Updates in all. Either this or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub steps: Option<u64>,
    /// Passes over the training samples, rounded up to whole steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000), extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
    /// Samples of one update, over all workers. Divisible by `logical_shards`.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub global_batch: u32,
    /// The most workers that can share a step, and what keeps the bits the same for fewer.
    #[schemars(range(min = 1, max = 1024))]
    pub logical_shards: u32,
    /// How a gradient changes the parameters. Absent: AdamW with a learning rate of 1e-3.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// The learning rate over the steps, as a share of the optimizer's `lr`.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// Largest L2 norm of the whole gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// What is made small.
    #[serde(default)]
    pub loss: LossSpec,
    /// Arithmetic of forward and backward; parameters and slots are always float32.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// Whether the result must be the same bits each time.
    #[serde(default)]
    pub numerics: NumericsSpec,
    /// What happens when the loss, the gradient or a buffer of a step is NaN or infinite.
    #[serde(default)]
    pub on_nonfinite: NonFiniteSpec,
    /// Parameters that stay as they are, by patterns on their names such as "layers.0.*": `*` stands for any characters,
    /// `?` for any one. They have no optimizer slots, and checkpoints write them once. Buffers such as BatchNorm's running
    /// statistics still follow the batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1)))]
    pub freeze: Vec<String>,
    /// Evaluate every so many steps; the end is always evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub eval_every: Option<u64>,
    /// Checks what workers compute: one logical shard of one step in so many is computed by a second worker too, or again
    /// by the same one where it is alone, and both must give the same bits before the step counts. `"auto"` costs 0.5 %
    /// of the time at most. `trainctl show` says how many audits passed. The result doesn't depend on it. With `numerics
    /// = "fast"`, where machines give other gradients than each other, `"auto"` means `"off"`.
    #[serde(default)]
    pub audit: AuditSpec,
}

impl TrainSpec {
    /// How often a logical shard is computed twice, with these numerics.
    #[must_use]
    pub fn audits(&self) -> AuditSpec {
        match self.numerics {
            NumericsSpec::Exact => self.audit,
            NumericsSpec::Fast => AuditSpec::Off,
        }
    }
}

/// `train.audit`, written as a number of steps or as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "AuditText", into = "AuditText")]
#[schemars(with = "AuditText", extend("format" = "audit"))]
pub enum AuditSpec {
    /// As often as costs 0.5 % of the time at most.
    #[default]
    Auto,
    /// Never.
    Off,
    /// One step in so many.
    Steps(u64),
}

impl AuditSpec {
    /// The rarest.
    const STEPS_MAX: u64 = 1_000_000_000_000;
}

/// [`AuditSpec`] as it is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum AuditText {
    /// One step in so many.
    Steps(#[schemars(range(min = 1, max = AuditSpec::STEPS_MAX))] u64),
    /// `auto`, `off`, or as many steps as in `checkpoint.every`.
    Text(String),
}

impl TryFrom<AuditText> for AuditSpec {
    type Error = String;
    fn try_from(written: AuditText) -> Result<Self, String> {
        let steps = match &written {
            AuditText::Steps(steps) => Some(*steps),
            AuditText::Text(text) => match text.trim() {
                "auto" => return Ok(Self::Auto),
                "off" => return Ok(Self::Off),
                text => count_of_steps(text),
            },
        };
        match (steps, written) {
            (Some(steps @ 1..=Self::STEPS_MAX), _) => Ok(Self::Steps(steps)),
            (_, AuditText::Steps(found)) => Err(format!("expected at least 1 step, found {found}")),
            (_, AuditText::Text(found)) => {
                Err(format!("expected \"auto\", \"off\" or a number of steps, found {found:?}"))
            }
        }
    }
}

impl From<AuditSpec> for AuditText {
    fn from(audit: AuditSpec) -> Self {
        match audit {
            AuditSpec::Auto => Self::Text("auto".to_owned()),
            AuditSpec::Off => Self::Text("off".to_owned()),
            AuditSpec::Steps(steps) => Self::Steps(steps),
        }
    }
}

/// `train.optimizer`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    Adamw {
        /// Peak learning rate.
        #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the first moment.
        #[serde(default = "default_beta1")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        beta1: f64,
        /// Decay of the second moment.
        #[serde(default = "default_beta2")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "default_eps")]
        #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
        eps: f64,
        /// Applied to every parameter of two or more dimensions.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1000))]
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Peak learning rate.
        #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// 0: none.
        #[serde(default)]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
        /// Nesterov's form of momentum.
        #[serde(default)]
        nesterov: bool,
        /// Added to the gradient, as L2.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1000))]
        weight_decay: f64,
    },
}

fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.999
}
fn default_eps() -> f64 {
    1e-8
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self::Adamw { lr: 1e-3, beta1: default_beta1(), beta2: default_beta2(), eps: default_eps(), weight_decay: 0.0 }
    }
}

/// `train.schedule`: the learning rate over the steps, as a share of the peak.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// Always the peak, after the warm-up.
    Constant {
        /// Linear rise from 0.
        #[serde(default)]
        warmup_steps: u64,
    },
    /// Half a cosine from the peak to `floor`.
    Cosine {
        /// Linear rise from 0.
        #[serde(default)]
        warmup_steps: u64,
        /// Share of the peak at the last step.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1))]
        floor: f64,
    },
    /// Multiplied by `gamma` every `every` steps.
    Step {
        /// Linear rise from 0.
        #[serde(default)]
        warmup_steps: u64,
        /// Steps between two drops.
        #[schemars(range(min = 1))]
        every: u64,
        /// Factor of each drop.
        #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
        gamma: f64,
    },
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self::Constant { warmup_steps: 0 }
    }
}

/// `train.loss`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum LossSpec {
    /// For classes and text.
    #[default]
    #[serde(rename = "cross-entropy")]
    CrossEntropy,
    /// Mean squared error, for numbers.
    #[serde(rename = "mse")]
    Mse,
}

/// `train.compute`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeSpec {
    /// float32.
    #[default]
    Fp32,
    /// bfloat16.
    Bf16,
}

/// `train.numerics`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NumericsSpec {
    /// The same bits whatever happens; only workers of one numerics fingerprint share a job.
    #[default]
    Exact,
    /// Mixed hardware is allowed, bits are not promised, and the run's record says so.
    Fast,
}

/// `train.on_nonfinite`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonFiniteSpec {
    /// The job fails.
    #[default]
    Stop,
    /// The step leaves the state as it was, and is counted; `trainctl show` says how many were. At the 100th in a row the
    /// job fails.
    Skip,
}
