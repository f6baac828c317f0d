//! Why a module of the user's fails on the job's data: what libtorch says while the module runs, as an error that names
//! what was expected, what was found and what to do. libtorch throws text alone, so its words are looked at here, and
//! nowhere else; what none of the rules knows is quoted.

use crate::error::EngineError;
use crate::task::{Input, Output, Task};
use std::fmt;
use tch::{Kind, TchError};

/// What a pass itself finds wrong with its module.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub(super) struct Unfit {
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) hint: &'static str,
}

/// Passes return tch's error, in which it travels to [`explain`].
impl From<Unfit> for TchError {
    fn from(unfit: Unfit) -> Self {
        Self::Io(std::io::Error::other(unfit))
    }
}

/// What to do about outputs of another shape or type.
pub(super) fn outputs_hint(output: Output) -> &'static str {
    match output {
        Output::Class { .. } => "return float32 logits, one for each of the data's classes",
        Output::Number => "return one float32 for each sample",
        Output::NextByte => "return float32 logits over the 256 bytes, for each byte of the context",
    }
}

/// As torch calls it in Python.
pub(super) fn dtype(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Half => "float16".to_owned(),
        Kind::BFloat16 => "bfloat16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The error of a module that was given micro-batches of so many samples. What isn't the module's fault stays as it is.
pub(crate) fn explain(error: EngineError, task: &Task, samples: u32) -> EngineError {
    let EngineError::Torch { doing, source } = error else { return error };
    let batch = Batch { task, samples };
    let misfit = match &source.0 {
        TchError::Io(error) => {
            let unfit = error.get_ref().and_then(|inner| inner.downcast_ref::<Unfit>());
            unfit.map(|Unfit { expected, found, hint }| Misfit::new(expected.clone(), found.clone(), hint))
        }
        TchError::Torch(_) if doing.starts_with("allocate") || source.is_of_the_machine() => None,
        TchError::Torch(text) => Some(misfit(text, doing, &batch)),
        _ => None,
    };
    match misfit {
        Some(Misfit { field, expected, found, hint }) => EngineError::Spec { field, expected, found, hint },
        None => EngineError::Torch { doing, source },
    }
}

/// The micro-batches that the module is given.
struct Batch<'a> {
    task: &'a Task,
    samples: u32,
}

impl fmt::Display for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = i64::from(self.samples);
        match &self.task.input {
            Input::Features(shape) => {
                let shape: Vec<i64> = std::iter::once(samples).chain(shape.iter().copied()).collect();
                write!(f, "the data's batches, float32 of shape {shape:?}")
            }
            Input::Tokens { context } => {
                write!(f, "the data's batches, int64 of shape {:?}", [samples, *context])
            }
        }
    }
}

/// An error of the job, as far as the rules decide it.
struct Misfit {
    field: &'static str,
    expected: String,
    found: String,
    hint: &'static str,
}

impl Misfit {
    fn new(expected: impl Into<String>, found: impl Into<String>, hint: &'static str) -> Self {
        Self { field: "model.path", expected: expected.into(), found: found.into(), hint }
    }
}

/// The first rule that knows the text; none is last.
fn misfit(text: &str, doing: &str, batch: &Batch<'_>) -> Misfit {
    let rules = [of_signature, of_result, of_gradient, of_place, of_types, of_sizes, of_exceptions];
    rules.iter().find_map(|rule| rule(text, batch)).unwrap_or_else(|| {
        let hint = "run the module in Python on such a batch: libtorch says the same there, and where";
        Misfit::new(format!("a module that can {doing} of {batch}"), format!("one that can't: {text}"), hint)
    })
}

/// The arguments of `forward`.
fn of_signature(text: &str, batch: &Batch<'_>) -> Option<Misfit> {
    let hint = "a job's data has one input: give other arguments a default, or compute them in forward";
    let found = if let Some(argument) = between(text, "forward() is missing value for argument '", "'") {
        format!("one that also needs `{argument}`")
    } else if let Some(wanted) = between(text, "forward() Expected a value of type '", "'") {
        format!("one that takes {wanted}")
    } else if text.starts_with("Expected at most") && text.contains("for operator 'forward'") {
        "one that takes nothing".to_owned()
    } else if text.contains("'forward' is not defined") {
        "a module without forward".to_owned()
    } else {
        return None;
    };
    Some(Misfit::new(format!("a forward that takes {batch}, and nothing else"), found, hint))
}

/// What `forward` returns; the shim says so.
fn of_result(text: &str, _: &Batch<'_>) -> Option<Misfit> {
    let tag = text.strip_prefix("expected `forward` to return one tensor, found ")?;
    let found = match tag {
        "Tuple" => "a tuple",
        "GenericDict" => "a dict",
        "GenericList" | "TensorList" => "a list",
        "Double" => "a float",
        "Int" => "an int",
        "Bool" => "a bool",
        "String" => "a str",
        "None" => "None",
        other => other,
    };
    let hint = "return the outputs alone, or export a module around this one whose forward does";
    Some(Misfit::new("a forward that returns one tensor", found, hint))
}

/// The backward pass.
fn of_gradient(text: &str, _: &Batch<'_>) -> Option<Misfit> {
    if text.starts_with("expected a dense float32 gradient, found Sparse") {
        let hint = "make the embedding with sparse=False, which is the default";
        return Some(Misfit::new("gradients that are dense", "a sparse one", hint));
    }
    if text.contains("does not require grad and does not have a grad_fn") {
        let hint = "remove detach(), torch.no_grad() and .item() from the way of the outputs through forward";
        return Some(Misfit::new("outputs that depend on the parameters", "outputs without a gradient", hint));
    }
    if text.contains("modified by an inplace operation") || text.contains("being used in an in-place operation") {
        let expected = "a forward that leaves alone what the gradient is computed from";
        let found = format!("one that writes to it in place: {}", first_sentence(text));
        let hint = "write y = y + 1 in place of y += 1, and relu(x) in place of relu_(x) or inplace=True";
        return Some(Misfit::new(expected, found, hint));
    }
    let operation = text.split_once(" does not have a deterministic implementation")?.0;
    let hint = "use another operation in its place, or workers without a GPU";
    Some(Misfit::new("operations that give the same bits each time", operation, hint))
}

/// The device that it computes on.
fn of_place(text: &str, _: &Batch<'_>) -> Option<Misfit> {
    let words =
        ["NVIDIA driver", "CUDA enabled", "linked with support for cuda", "'CUDA' backend", "on the same device"];
    words.iter().any(|words| text.contains(words)).then(|| {
        let expected = "a module that computes where its input is";
        let found = format!("one that names a device: {}", first_sentence(text));
        let hint = "use x.device in forward in place of \"cuda\", and keep constants as buffers";
        Misfit::new(expected, found, hint)
    })
}

/// Whole numbers where floats are wanted, or the other way around.
fn of_types(text: &str, batch: &Batch<'_>) -> Option<Misfit> {
    if text == "index out of range in self" {
        let (found, hint) = match batch.task.input {
            Input::Tokens { .. } => (
                "an embedding with too few rows",
                "bytes need nn.Embedding(256, width), positions one row for each byte of model.context",
            ),
            Input::Features(_) => {
                ("an embedding with too few rows", "values of the data are rows of it: make it larger")
            }
        };
        return Some(Misfit::new(format!("a module for {batch}"), found, hint));
    }
    let words = [
        "must have the same dtype",
        "to have the same dtype",
        "of the following scalar types",
        "expected scalar type",
        "should be the same",
        "mixed dtype",
        "index tensor of type",
    ];
    words.iter().any(|words| text.contains(words)).then(|| {
        let (found, hint) = match batch.task.input {
            Input::Tokens { .. } => {
                ("one that takes them for another type", "embed the bytes first: nn.Embedding(256, width)(x)")
            }
            Input::Features(_) if text.contains("embedding") => {
                ("one that looks them up in an embedding", "write embedding(x.long()) for data of whole numbers")
            }
            Input::Features(_) => {
                ("one that takes them for another type", "cast in forward, and call module.float() before the export")
            }
        };
        Misfit::new(format!("a module for {batch}"), format!("{found}: {text}"), hint)
    })
}

/// Shapes.
fn of_sizes(text: &str, batch: &Batch<'_>) -> Option<Misfit> {
    if text.contains("Expected more than 1 value per channel when training") && batch.samples == 1 {
        let hint = "raise train.global_batch, or lower train.logical_shards";
        let misfit = Misfit::new("more than one sample in each micro-batch, for BatchNorm", "one", hint);
        return Some(Misfit { field: "train.global_batch", ..misfit });
    }
    let hint = match batch.task.input {
        Input::Features(_) => {
            "let forward bring samples into shape, such as x.flatten(1) or x.view(-1, 1, 28, 28), or pin the data with \
             --shape"
        }
        Input::Tokens { .. } => "the second dimension is model.context",
    };
    let found = if let Some((given, taken)) = factors(text) {
        format!("one with a layer that takes {taken} values and is given {given}")
    } else {
        let words = [
            "Expected 2D (unbatched)",
            "Expected 3D (unbatched)",
            "Expected 4D (unbatched)",
            "Given groups=",
            "Given normalized_shape=",
            "Given input size",
            "running_mean should contain",
            "is invalid for input of size",
            "must match the size of tensor",
            "Sizes of tensors must match",
            "Dimension out of range",
            "out of range for tensor of size",
            "Kernel size can't be greater",
            "size mismatch",
            "elements in a list but found",
        ];
        if !words.iter().any(|words| text.contains(words)) {
            return None;
        }
        format!("one for another shape: {text}")
    };
    Some(Misfit::new(format!("a module for {batch}"), found, hint))
}

/// What `forward` raises itself, or a layer of torch's that is written in Python.
fn of_exceptions(text: &str, batch: &Batch<'_>) -> Option<Misfit> {
    let raised = text.strip_prefix("builtins.").or_else(|| text.starts_with("AssertionError").then_some(text))?;
    let hint = "that is raised in forward, or in a layer of it that checks its input";
    Some(Misfit::new(format!("a module for {batch}"), format!("one that raises {raised}"), hint))
}

/// Columns of the one matrix and rows of the other, where a product can't be had.
fn factors(text: &str) -> Option<(&str, &str)> {
    let shapes = between(text, "shapes cannot be multiplied (", ")")?;
    let (left, right) = shapes.split_once(" and ")?;
    Some((left.rsplit_once('x')?.1, right.split_once('x')?.0))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Doing as _;

    fn explained(text: &str) -> EngineError {
        let task = Task { input: Input::Features(vec![64]), output: Output::Class { classes: 4 } };
        let thrown: Result<(), TchError> = Err(TchError::Torch(text.to_owned()));
        explain(thrown.doing("compute a gradient").unwrap_err(), &task, 13)
    }

    #[test]
    fn what_only_gpus_say_is_known_as_well() {
        for (text, expected) in [
            (
                "scatter_add_cuda_kernel does not have a deterministic implementation, but you set \
                 'torch.use_deterministic_algorithms(True)'.",
                "model.path: expected operations that give the same bits each time, found scatter_add_cuda_kernel",
            ),
            (
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
                "model.path: expected a module that computes where its input is, found one that names a device: Expected \
                 all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            ),
        ] {
            assert_eq!(explained(text).to_string(), expected);
        }
    }

    #[test]
    fn what_a_gpu_says_of_itself_is_not_the_modules_fault() {
        for text in
            ["CUDA out of memory. Tried to allocate 2.00 GiB.", "CUDA error: uncorrectable ECC error encountered"]
        {
            assert!(matches!(explained(text), EngineError::Torch { .. }), "{text}");
        }
    }

    #[test]
    fn what_no_rule_knows_is_quoted() {
        let error = explained("a thing that libtorch will say in some years");
        assert_eq!(
            error.to_string(),
            "model.path: expected a module that can compute a gradient of the data's batches, float32 of shape [13, 64], \
             found one that can't: a thing that libtorch will say in some years"
        );
        assert!(error.hint().is_some());
    }
}
