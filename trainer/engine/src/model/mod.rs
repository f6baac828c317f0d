//! What a model is to the rest of the engine: tensors that it declares, and a forward pass over them.
//!
//! Models hold no tensors. A forward pass takes its parameters and buffers in the order in which they were declared,
//! as views into the flat state.

mod convnet;
mod gpt;
mod mlp;
pub(crate) mod torchscript;

use crate::error::EngineError;
use crate::seed::{Stream, mix};
use crate::storage::MASTER;
use crate::task::Task;
pub(crate) use gpt::VOCABULARY;
use std::cell::Cell;
use tch::{Kind, TchError, Tensor};
use trainctl_jobs::ModelSpec;

/// A tensor that a model wants.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Declared {
    /// As checkpoints call it, such as `blocks.0.conv.weight`.
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) initial: Initial,
    /// As passes read it; the state has it as float32.
    pub(crate) kind: Kind,
    /// Checkpoints from before it was part of the state lack it.
    pub(crate) may_be_absent: bool,
}

impl Declared {
    pub(crate) fn new(name: impl Into<String>, shape: &[i64], initial: Initial) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), initial, kind: MASTER, may_be_absent: false }
    }
}

/// How a tensor starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Initial {
    Zero,
    One,
    /// Uniform in [-bound, bound).
    Uniform {
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        deviation: f64,
    },
    /// The model has it, and writes it in [`Model::adopt`].
    Own,
}

impl Initial {
    /// For weights before a ReLU: keeps the variance of what flows through (He et al., 2015).
    fn before_relu(inputs: i64) -> Self {
        Self::Uniform { bound: (6.0 / inputs as f64).sqrt() }
    }

    /// For weights of a linear head.
    fn head(inputs: i64) -> Self {
        Self::Uniform { bound: (1.0 / inputs as f64).sqrt() }
    }

    /// Writes the first values of a tensor: a pure function of the seed.
    pub(crate) fn fill(self, seed: u64, out: &mut [f32]) {
        let mut stream = Stream::new(seed);
        match self {
            Self::Zero | Self::Own => out.fill(0.0),
            Self::One => out.fill(1.0),
            Self::Uniform { bound } => out.fill_with(|| ((stream.uniform() * 2.0 - 1.0) * bound) as f32),
            Self::Normal { deviation } => out.fill_with(|| (stream.normal() * deviation) as f32),
        }
    }
}

/// The seed of the tensor that is declared at `index`.
pub(crate) fn initial_seed(job_seed: u64, index: usize) -> u64 {
    mix(job_seed, crate::seed::Purpose::Initial, index as u64, 0)
}

/// Views into a replica's memory, in the order of declaration.
pub(crate) struct Views {
    pub(crate) parameters: Vec<Tensor>,
    /// In the state.
    pub(crate) buffers: Vec<Tensor>,
    /// Where a pass finds the buffers, and updates them.
    pub(crate) scratch: Vec<Tensor>,
}

/// A model of a certain size.
pub(crate) trait Model: Send {
    /// What the optimizer updates.
    fn parameters(&self) -> Vec<Declared>;

    /// What the forward pass may update while training.
    fn buffers(&self) -> Vec<Declared> {
        Vec::new()
    }

    /// Whether a training pass draws random numbers.
    fn draws(&self) -> bool;

    /// Called once, before the first pass: returns the leaves of autograd's graph, on the views' memory. A model with
    /// tensors of its own writes their values to the views and moves into their memory.
    fn adopt(&mut self, views: &mut Views) -> Result<Vec<Tensor>, TchError> {
        Ok(views.parameters.drain(..).map(|view| view.set_requires_grad(true)).collect())
    }

    /// From a batch of inputs to one row of float32 outputs for each sample (for each token: `[samples * context, _]`).
    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError>;

    /// Compares what it has beside parameters and buffers with what that was at first.
    ///
    /// # Errors
    /// [`EngineError::Moved`] names the first tensor that has other values.
    fn check_constants(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Which of two equal instances of a model computes. What a model remembers outside of its tensors differs between them, so
/// that a pass that depends on it gives other bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Instance {
    /// All passes but audits.
    Training,
    /// Audits only.
    Audit,
}

/// Builds the built-in model that the job asks for, for what the data offers.
///
/// # Panics
/// For a TorchScript module, which is loaded: [`torchscript::Torchscript::load`].
pub(crate) fn build(spec: &ModelSpec, task: &Task) -> Result<Box<dyn Model>, EngineError> {
    Ok(match spec {
        ModelSpec::Mlp { hidden, dropout } => Box::new(mlp::Mlp::new(hidden, *dropout, task)?),
        ModelSpec::Convnet { channels, dropout } => Box::new(convnet::Convnet::new(channels, *dropout, task)?),
        ModelSpec::Gpt { layers, heads, width, dropout, .. } => {
            Box::new(gpt::Gpt::new(*layers, *heads, *width, *dropout, task)?)
        }
        ModelSpec::Torchscript { .. } => unreachable!("a TorchScript module is loaded, not built"),
    })
}

/// One forward pass: the tensors that it reads, and how.
pub(crate) struct Pass<'a> {
    parameters: &'a [Tensor],
    buffers: &'a [Tensor],
    next_parameter: Cell<usize>,
    next_buffer: Cell<usize>,
    compute: Kind,
    training: bool,
    instance: Instance,
}

impl<'a> Pass<'a> {
    /// Matrix products and convolutions run in `compute`; all else runs in float32.
    pub(crate) fn new(
        parameters: &'a [Tensor],
        buffers: &'a [Tensor],
        compute: Kind,
        training: bool,
        instance: Instance,
    ) -> Self {
        let (next_parameter, next_buffer) = (Cell::new(0), Cell::new(0));
        Self { parameters, buffers, next_parameter, next_buffer, compute, training, instance }
    }

    /// The next parameter, in the order of declaration.
    fn parameter(&self) -> &'a Tensor {
        &self.parameters[self.next_parameter.replace(self.next_parameter.get() + 1)]
    }

    /// The next buffer, in the order of declaration.
    fn buffer(&self) -> &'a Tensor {
        &self.buffers[self.next_buffer.replace(self.next_buffer.get() + 1)]
    }

    /// Takes everything at once, for a model that has its tensors on the same memory.
    fn take_all(&self) {
        self.next_parameter.set(self.parameters.len());
        self.next_buffer.set(self.buffers.len());
    }

    /// Whether the pass took everything that was declared.
    pub(crate) fn is_complete(&self) -> bool {
        self.next_parameter.get() == self.parameters.len() && self.next_buffer.get() == self.buffers.len()
    }

    fn dropout(&self, x: Tensor, probability: f64) -> Result<Tensor, TchError> {
        if self.training && probability > 0.0 { x.f_dropout(probability, true) } else { Ok(x) }
    }

    /// `x * weight^T + bias`.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
        if self.compute == MASTER {
            return x.f_linear(weight, bias);
        }
        let bias = bias.map(|bias| bias.f_to_kind(self.compute)).transpose()?;
        x.f_to_kind(self.compute)?.f_linear(&weight.f_to_kind(self.compute)?, bias.as_ref())?.f_to_kind(MASTER)
    }

    /// A 3x3 convolution that keeps height and width.
    fn conv3x3(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
        let conv = |x: &Tensor, weight: &Tensor| x.f_conv2d::<Tensor>(weight, None, [1, 1], [1, 1], [1, 1], 1);
        if self.compute == MASTER {
            return conv(x, weight);
        }
        conv(&x.f_to_kind(self.compute)?, &weight.f_to_kind(self.compute)?)?.f_to_kind(MASTER)
    }

    /// Causal attention over `[samples, heads, tokens, width of a head]`.
    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, dropout: f64) -> Result<Tensor, TchError> {
        let dropout = if self.training { dropout } else { 0.0 };
        let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
            Tensor::f_scaled_dot_product_attention::<Tensor>(q, k, v, None, dropout, true, None, false)
        };
        if self.compute == MASTER {
            return attend(q, k, v);
        }
        let cast = |x: &Tensor| x.f_to_kind(self.compute);
        attend(&cast(q)?, &cast(k)?, &cast(v)?)?.f_to_kind(MASTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Input, Output};

    fn names(model: &ModelSpec, input: Input, output: Output) -> Vec<String> {
        let model = build(model, &Task { input, output }).unwrap();
        model.parameters().into_iter().chain(model.buffers()).map(|tensor| tensor.name).collect()
    }

    #[test]
    fn a_job_knows_the_names_before_there_is_a_model() {
        let image = Input::Features(vec![1, 8, 8]);
        let cases = [
            (ModelSpec::Mlp { hidden: vec![4, 5], dropout: 0.0 }, image.clone()),
            (ModelSpec::Convnet { channels: vec![4, 2], dropout: 0.0 }, image),
            (
                ModelSpec::Gpt { layers: 2, heads: 2, width: 8, context: 16, dropout: 0.0 },
                Input::Tokens { context: 16 },
            ),
        ];
        for (model, input) in cases {
            let output =
                if input == (Input::Tokens { context: 16 }) { Output::NextByte } else { Output::Class { classes: 3 } };
            let built = build(&model, &Task { input, output }).unwrap();
            let names: Vec<String> = built.parameters().into_iter().map(|parameter| parameter.name).collect();
            assert_eq!(model.parameter_names(), Some(names));
        }
    }

    #[test]
    fn names_in_checkpoints_never_change() {
        let image = Input::Features(vec![1, 8, 8]);
        let classes = Output::Class { classes: 10 };
        assert_eq!(
            names(&ModelSpec::Mlp { hidden: vec![4], dropout: 0.0 }, image.clone(), classes),
            ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
        );
        assert_eq!(
            names(&ModelSpec::Convnet { channels: vec![4], dropout: 0.0 }, image, classes),
            [
                "blocks.0.conv.weight",
                "blocks.0.norm.weight",
                "blocks.0.norm.bias",
                "head.weight",
                "head.bias",
                "blocks.0.norm.running_mean",
                "blocks.0.norm.running_var",
            ]
        );
        let gpt = ModelSpec::Gpt { layers: 1, heads: 2, width: 8, context: 16, dropout: 0.0 };
        assert_eq!(
            names(&gpt, Input::Tokens { context: 16 }, Output::NextByte),
            [
                "tokens.weight",
                "positions.weight",
                "blocks.0.norm1.weight",
                "blocks.0.norm1.bias",
                "blocks.0.attention.qkv.weight",
                "blocks.0.attention.qkv.bias",
                "blocks.0.attention.out.weight",
                "blocks.0.attention.out.bias",
                "blocks.0.norm2.weight",
                "blocks.0.norm2.bias",
                "blocks.0.feed.up.weight",
                "blocks.0.feed.up.bias",
                "blocks.0.feed.down.weight",
                "blocks.0.feed.down.bias",
                "norm.weight",
                "norm.bias",
            ]
        );
    }
}
