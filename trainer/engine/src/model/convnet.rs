//! Blocks of a 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling, then a linear head. The convolutions pad by one,
//! so only the pooling changes height and width: each block halves them, rounding down.

use super::{Declared, Initial, Model, Pass};
use crate::error::EngineError;
use crate::task::{Input, Task};
use tch::{TchError, Tensor};

/// Share of a batch's statistics in the running ones, as is usual.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

pub(crate) struct Convnet {
    /// Channels, height, width of a sample.
    image: [i64; 3],
    channels: Vec<i64>,
    outputs: i64,
    dropout: f64,
}

impl Convnet {
    pub(crate) fn new(channels: &[u32], dropout: f64, task: &Task) -> Result<Self, EngineError> {
        let image = match &task.input {
            Input::Features(shape) => match shape[..] {
                [height, width] => [1, height, width],
                [channels, height, width] => [channels, height, width],
                _ => return Err(not_images(format!("features of shape {shape:?}"))),
            },
            Input::Tokens { .. } => return Err(not_images("text".to_owned())),
        };
        let blocks_max = image[1].min(image[2]).ilog2();
        if channels.len() > blocks_max as usize {
            return Err(EngineError::Spec {
                field: "model.channels",
                expected: format!("at most {blocks_max} blocks, as each halves the {}x{} image", image[1], image[2]),
                found: format!("{} blocks", channels.len()),
                hint: "remove blocks from model.channels",
            });
        }
        let channels = channels.iter().map(|&n| i64::from(n)).collect();
        Ok(Self { image, channels, outputs: task.output.width(), dropout })
    }

    fn head_inputs(&self) -> i64 {
        let [channels, height, width] = self.image;
        let blocks = self.channels.len();
        self.channels.last().unwrap_or(&channels) * (height >> blocks) * (width >> blocks)
    }
}

fn not_images(found: String) -> EngineError {
    EngineError::Spec {
        field: "model.kind",
        expected: "images, [height, width] or [channels, height, width], for a convnet".to_owned(),
        found,
        hint: "use model.kind = \"mlp\", or pin the data with the shape of its images",
    }
}

impl Model for Convnet {
    fn parameters(&self) -> Vec<Declared> {
        let mut declared = Vec::new();
        let mut inputs = self.image[0];
        for (i, &outputs) in self.channels.iter().enumerate() {
            let initial = Initial::before_relu(inputs * 9);
            declared.push(Declared::new(format!("blocks.{i}.conv.weight"), &[outputs, inputs, 3, 3], initial));
            declared.push(Declared::new(format!("blocks.{i}.norm.weight"), &[outputs], Initial::One));
            declared.push(Declared::new(format!("blocks.{i}.norm.bias"), &[outputs], Initial::Zero));
            inputs = outputs;
        }
        let inputs = self.head_inputs();
        declared.push(Declared::new("head.weight", &[self.outputs, inputs], Initial::head(inputs)));
        declared.push(Declared::new("head.bias", &[self.outputs], Initial::Zero));
        declared
    }

    fn buffers(&self) -> Vec<Declared> {
        let of_block = |(i, &channels): (usize, &i64)| {
            [
                Declared::new(format!("blocks.{i}.norm.running_mean"), &[channels], Initial::Zero),
                Declared::new(format!("blocks.{i}.norm.running_var"), &[channels], Initial::One),
            ]
        };
        self.channels.iter().enumerate().flat_map(of_block).collect()
    }

    fn draws(&self) -> bool {
        self.dropout > 0.0
    }

    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        let [channels, height, width] = self.image;
        let mut x = input.f_view([-1, channels, height, width])?;
        for _ in &self.channels {
            x = pass.conv3x3(&x, pass.parameter())?;
            x = batch_norm(&x, pass)?.f_relu()?.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
        }
        let x = pass.dropout(x.f_flatten(1, -1)?, self.dropout)?;
        pass.linear(&x, pass.parameter(), Some(pass.parameter()))
    }
}

/// While training it normalizes by the batch's statistics and moves the running ones; else by the running ones.
fn batch_norm(x: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
    let (weight, bias) = (pass.parameter(), pass.parameter());
    let (mean, variance) = (pass.buffer(), pass.buffer());
    x.f_batch_norm(Some(weight), Some(bias), Some(mean), Some(variance), pass.training, MOMENTUM, EPSILON, false)
}
