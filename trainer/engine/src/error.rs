//! What can go wrong in the engine, by what the caller does about it.

use std::borrow::Cow;
use std::fmt;
use tch::TchError;
use trainctl_jobs::{Refusal, RefusalCause};

/// Why a step, an evaluation or the set-up of an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The job's model, loss and data don't fit together: the job fails, no other worker could do better.
    #[error("{field}: expected {expected}, found {found}")]
    Spec {
        /// Path of the key in the job spec.
        field: &'static str,
        /// What it takes.
        expected: String,
        /// What the job says or the data is.
        found: String,
        /// What the user could write.
        hint: &'static str,
    },
    /// Training diverged: the job fails. The state is still that of before the step.
    #[error("step {step}: expected finite numbers, found {what} with NaN or infinity")]
    NotFinite {
        /// The update that was being computed, counted from 0.
        step: u64,
        /// Where it was seen first.
        what: NotFinite,
    },
    /// Training diverged for good, although the job skips such steps: the job fails.
    #[error(
        "step {step}: expected a step with finite numbers among the last {in_a_row}, found none, the last with {what}"
    )]
    AllSkipped {
        /// The update that was being computed, counted from 0.
        step: u64,
        /// Skipped steps without one between that was not.
        in_a_row: u64,
        /// Where it was seen first in this one.
        what: NotFinite,
    },
    /// The same batch gave other bits when it was computed again: the job can't be exact.
    #[error("model: expected the same {what} each time, found other bits when computed again")]
    NotDeterministic {
        /// Which part of the computation, such as a parameter's gradient.
        what: String,
    },
    /// A pass wrote to what was no part of the state: the job can't be exact.
    #[error("model: expected {tensor} to stay as it is, as in the trial passes, found other values")]
    Moved {
        /// Its name in the module.
        tensor: String,
    },
    /// The pinned data can't be had as it was pinned: the job fails.
    #[error(transparent)]
    Data(#[from] trainctl_data::DataError),
    /// The parameters are useless: the job fails.
    #[error("evaluation: expected a finite loss, found {loss}")]
    EvaluationNotFinite {
        /// NaN or an infinity.
        loss: f32,
    },
    /// The worker is asked to compute where it can't.
    #[error("device: expected {expected}, found {found}")]
    Device {
        /// What it takes.
        expected: String,
        /// What there is.
        found: String,
        /// What the user could do.
        hint: &'static str,
    },
    /// libtorch refused an operation: a defect of this program, or no memory left.
    #[error("can't {doing}")]
    Torch {
        /// What was being computed, a verb phrase.
        doing: &'static str,
        /// libtorch's own words.
        #[source]
        source: Libtorch,
    },
}

/// An error of libtorch. It is shown as libtorch says it: tch calls whatever libtorch throws an internal error.
#[derive(Debug)]
pub struct Libtorch(pub(crate) TchError);

impl fmt::Display for Libtorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TchError::Torch(text) => f.write_str(text),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for Libtorch {}

impl Libtorch {
    /// Whether there was no memory left, on the processor or a GPU.
    fn is_out_of_memory(&self) -> bool {
        self.mentions(&["can't allocate memory", "out of memory"])
    }

    /// Whether another machine, or this one at another time, would not say it.
    pub(crate) fn is_of_the_machine(&self) -> bool {
        self.is_out_of_memory() || self.mentions(&["CUDA error", "cuDNN error"])
    }

    fn mentions(&self, words: &[&str]) -> bool {
        matches!(&self.0, TchError::Torch(text) if words.iter().any(|words| text.contains(words)))
    }
}

impl EngineError {
    /// What to do about a tensor that moves without being part of the state.
    pub(crate) const HINT_MOVED: &str = "keep what a pass changes in a float32 buffer that each pass changes, or in one \
                                         of up to 65,536 elements: those are part of the state";

    /// What the user can do about it, one clause; none where only they know.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        if let Self::Data(error) = self {
            return error.hint().map(Cow::Owned);
        }
        self.own_hint().map(Cow::Borrowed)
    }

    /// The same for a command line that asked for a check.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (field, message) = match self {
            Self::Spec { field, expected, found, .. } => {
                (Some((*field).to_owned()), format!("expected {expected}, found {found}"))
            }
            other => (None, chain(other)),
        };
        let cause = match self {
            Self::Spec { .. }
            | Self::NotFinite { .. }
            | Self::AllSkipped { .. }
            | Self::NotDeterministic { .. }
            | Self::Moved { .. }
            | Self::EvaluationNotFinite { .. } => RefusalCause::Job,
            Self::Data(_) => RefusalCause::Data,
            Self::Device { .. } | Self::Torch { .. } => RefusalCause::Machine,
        };
        Refusal { cause, field, message, hint: self.hint().map(Cow::into_owned) }
    }

    fn own_hint(&self) -> Option<&'static str> {
        match self {
            Self::Spec { hint, .. } | Self::Device { hint, .. } => Some(hint),
            Self::NotFinite { what: NotFinite::Buffer, .. } => Some("look for broken values in the data"),
            Self::Moved { .. } => Some(Self::HINT_MOVED),
            Self::NotDeterministic { .. } => Some(
                "use operations that are deterministic, draw random numbers with torch's default generator \
                 only, and dropout only while module.training",
            ),
            Self::NotFinite { .. } | Self::AllSkipped { .. } | Self::EvaluationNotFinite { .. } => Some(
                "lower train.optimizer.lr, set train.clip_norm or a longer warm-up, or look for broken values in the data",
            ),
            Self::Torch { doing, source } if doing.starts_with("allocate") || source.is_out_of_memory() => {
                Some("give each worker more memory, or make the model or train.global_batch smaller")
            }
            Self::Torch { .. } | Self::Data(_) => None,
        }
    }
}

/// An error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Which part of a round's vector is not finite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotFinite {
    /// The mean loss.
    Loss,
    /// An element of the gradient.
    Gradient,
    /// A buffer, such as BatchNorm's running variance.
    Buffer,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "a loss",
            Self::Gradient => "a gradient",
            Self::Buffer => "a buffer",
        })
    }
}

/// Names what libtorch was asked to do when it failed.
pub(crate) trait Doing<T> {
    /// `doing` is a verb phrase, such as `compute a gradient`.
    fn doing(self, doing: &'static str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, TchError> {
    fn doing(self, doing: &'static str) -> Result<T, EngineError> {
        self.map_err(|source| EngineError::Torch { doing, source: Libtorch(without_stack(source)) })
    }
}

/// libtorch adds its own call stack, and TorchScript the module's, which say nothing to the user of a job.
pub(crate) fn without_stack(error: TchError) -> TchError {
    let TchError::Torch(text) = error else { return error };
    let raised = if text.starts_with("The following operation failed in the TorchScript interpreter") {
        let at = text.rfind("RuntimeError: ").map(|at| at + "RuntimeError: ".len());
        at.map_or_else(|| text.trim_end().lines().next_back(), |at| text[at..].lines().next())
    } else {
        text.trim_start().lines().next()
    };
    TchError::Torch(raised.unwrap_or_default().trim_end().to_owned())
}
