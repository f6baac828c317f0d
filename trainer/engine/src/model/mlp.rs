//! Fully connected layers with ReLU between.

use super::{Declared, Initial, Model, Pass};
use crate::error::EngineError;
use crate::task::{Input, Task};
use tch::{TchError, Tensor};

pub(crate) struct Mlp {
    /// Inputs, the hidden layers, outputs.
    widths: Vec<i64>,
    dropout: f64,
}

impl Mlp {
    pub(crate) fn new(hidden: &[u32], dropout: f64, task: &Task) -> Result<Self, EngineError> {
        let Input::Features(shape) = &task.input else {
            return Err(EngineError::Spec {
                field: "model.kind",
                expected: "numbers for an mlp".to_owned(),
                found: "text".to_owned(),
                hint: "use model.kind = \"gpt\" for text",
            });
        };
        let mut widths = vec![shape.iter().product()];
        widths.extend(hidden.iter().map(|&width| i64::from(width)));
        widths.push(task.output.width());
        Ok(Self { widths, dropout })
    }

    fn layers(&self) -> usize {
        self.widths.len() - 1
    }
}

impl Model for Mlp {
    fn parameters(&self) -> Vec<Declared> {
        let mut declared = Vec::new();
        for (i, pair) in self.widths.windows(2).enumerate() {
            let [inputs, outputs] = [pair[0], pair[1]];
            let is_head = i + 1 == self.layers();
            let initial = if is_head { Initial::head(inputs) } else { Initial::before_relu(inputs) };
            declared.push(Declared::new(format!("layers.{i}.weight"), &[outputs, inputs], initial));
            declared.push(Declared::new(format!("layers.{i}.bias"), &[outputs], Initial::Zero));
        }
        declared
    }

    fn draws(&self) -> bool {
        self.dropout > 0.0 && self.layers() > 1
    }

    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        let mut x = input.f_flatten(1, -1)?;
        for _ in 1..self.layers() {
            x = pass.linear(&x, pass.parameter(), Some(pass.parameter()))?.f_relu()?;
            x = pass.dropout(x, self.dropout)?;
        }
        pass.linear(&x, pass.parameter(), Some(pass.parameter()))
    }
}
