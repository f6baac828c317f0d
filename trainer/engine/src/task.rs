//! What the data offers to a model and what it asks of it: shapes of inputs and outputs, and the loss between outputs
//! and targets.

use crate::error::EngineError;
use crate::model::VOCABULARY;
use tch::{Kind, Reduction, TchError, Tensor};
use trainctl_data::{Dataset, Target};
use trainctl_jobs::{JobSpec, LossSpec, ModelSpec};

/// Inputs of one sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// Numbers of this shape.
    Features(Vec<i64>),
    /// So many bytes of text.
    Tokens { context: i64 },
}

/// What is predicted, and how it is scored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// One of so many classes, by cross-entropy.
    Class { classes: i64 },
    /// The byte after each byte, by cross-entropy.
    NextByte,
    /// A number, by mean squared error.
    Number,
}

impl Output {
    /// Outputs for each prediction.
    pub(crate) fn width(self) -> i64 {
        match self {
            Self::Class { classes } => classes,
            Self::NextByte => VOCABULARY,
            Self::Number => 1,
        }
    }
}

/// Inputs and outputs of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Task {
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// Sums over predictions on held-out samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) loss: f64,
    pub(crate) right: u64,
    pub(crate) count: u64,
}

impl Task {
    /// The task of a job on its data.
    pub(crate) fn new(spec: &JobSpec, data: &Dataset) -> Result<Self, EngineError> {
        let output = match (data.target(), spec.train.loss) {
            (Target::Class { classes, .. }, LossSpec::CrossEntropy) => Output::Class { classes: i64::from(*classes) },
            (Target::NextByte, LossSpec::CrossEntropy) => Output::NextByte,
            (Target::Number { .. }, LossSpec::Mse) => Output::Number,
            (Target::Class { .. } | Target::NextByte, LossSpec::Mse) => {
                return Err(EngineError::Spec {
                    field: "train.loss",
                    expected: "\"cross-entropy\", as the data's target is a class".to_owned(),
                    found: "\"mse\"".to_owned(),
                    hint: "set train.loss = \"cross-entropy\", or pin the data with a target of numbers",
                });
            }
            (Target::Number { .. }, LossSpec::CrossEntropy) => {
                return Err(EngineError::Spec {
                    field: "train.loss",
                    expected: "\"mse\", as the data's target is a number".to_owned(),
                    found: "\"cross-entropy\"".to_owned(),
                    hint: "set train.loss = \"mse\", or pin the data with a target of classes",
                });
            }
        };
        let input = match (&spec.model, output) {
            (
                ModelSpec::Gpt { context, .. } | ModelSpec::Torchscript { context: Some(context), .. },
                Output::NextByte,
            ) => Input::Tokens { context: i64::from(*context) },
            (_, Output::NextByte) => Input::Tokens { context: 1 },
            _ => Input::Features(data.sample_shape().iter().map(|&n| i64::from(n)).collect()),
        };
        Ok(Self { input, output })
    }

    /// The loss of a model's outputs, over all predictions of a batch.
    pub(crate) fn loss(&self, outputs: &Tensor, targets: &Tensor, over: Reduction) -> Result<Tensor, TchError> {
        match self.output {
            Output::Class { .. } | Output::NextByte => {
                outputs.f_cross_entropy_loss::<Tensor>(&targets.f_reshape([-1])?, None, over, -100, 0.0)
            }
            Output::Number => outputs.f_view([-1])?.f_mse_loss(targets, over),
        }
    }

    /// Scores a model's outputs; for numbers, none is right or wrong.
    pub(crate) fn score(&self, outputs: &Tensor, targets: &Tensor) -> Result<Score, TchError> {
        let loss = self.loss(outputs, targets, Reduction::Sum)?.f_double_value(&[])?;
        let right = match self.output {
            Output::Class { .. } | Output::NextByte => {
                let equal = outputs.f_argmax(-1, false)?.f_eq_tensor(&targets.f_reshape([-1])?)?;
                equal.f_sum(Kind::Int64)?.f_int64_value(&[])?.unsigned_abs()
            }
            Output::Number => 0,
        };
        Ok(Score { loss, right, count: targets.numel() as u64 })
    }
}
