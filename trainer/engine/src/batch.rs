//! The input and target tensors of one batch. They are made once; samples are written straight into their memory.

use crate::storage::Storage;
use crate::task::{Input, Output, Task};
use tch::{TchError, Tensor};
use trainctl_data::{DataError, Dataset};

/// Room for a fixed count of samples.
pub(crate) struct Batch {
    samples: Samples,
    context: u32,
    input: Tensor,
    target: Tensor,
}

enum Samples {
    Classes(Storage<f32>, Storage<i64>),
    Numbers(Storage<f32>, Storage<f32>),
    /// One byte more than the context for each sample: inputs and targets are views, one byte apart.
    Text(Storage<i64>),
}

impl Batch {
    /// Room for `len` samples.
    pub(crate) fn new(task: &Task, len: usize) -> Result<Self, TchError> {
        let len = len as i64;
        match &task.input {
            Input::Features(shape) => {
                let features = Storage::zeros(&[&[len], shape.as_slice()].concat())?;
                let input = features.tensor().shallow_clone();
                let (samples, target) = match task.output {
                    Output::Class { .. } | Output::NextByte => {
                        let classes = Storage::zeros(&[len])?;
                        let target = classes.tensor().shallow_clone();
                        (Samples::Classes(features, classes), target)
                    }
                    Output::Number => {
                        let numbers = Storage::zeros(&[len])?;
                        let target = numbers.tensor().shallow_clone();
                        (Samples::Numbers(features, numbers), target)
                    }
                };
                Ok(Self { samples, context: 0, input, target })
            }
            Input::Tokens { context } => {
                let text = Storage::zeros(&[len, context + 1])?;
                let input = text.tensor().f_narrow(1, 0, *context)?;
                let target = text.tensor().f_narrow(1, 1, *context)?;
                Ok(Self { samples: Samples::Text(text), context: *context as u32, input, target })
            }
        }
    }

    /// Writes these rows of the data set, as many as there is room for.
    pub(crate) fn fill(&mut self, data: &Dataset, rows: &[u64]) -> Result<(), DataError> {
        match &mut self.samples {
            Samples::Classes(features, classes) => {
                data.fill_features(rows, features.as_mut_slice())?;
                data.fill_classes(rows, classes.as_mut_slice())
            }
            Samples::Numbers(features, numbers) => {
                data.fill_features(rows, features.as_mut_slice())?;
                data.fill_numbers(rows, numbers.as_mut_slice())
            }
            Samples::Text(text) => data.fill_tokens(rows, self.context, text.as_mut_slice()),
        }
    }

    /// What the model reads.
    pub(crate) fn input(&self) -> &Tensor {
        &self.input
    }

    /// What it should predict.
    pub(crate) fn target(&self) -> &Tensor {
        &self.target
    }
}
