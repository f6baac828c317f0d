//! A byte-level transformer decoder: learned positions, pre-norm blocks, causal attention, and the token embedding
//! also as the head (Radford et al., 2019; tied after Press and Wolf, 2017).

use super::{Declared, Initial, Model, Pass};
use crate::error::EngineError;
use crate::task::{Input, Task};
use tch::{TchError, Tensor};

/// Tokens are bytes.
pub(crate) const VOCABULARY: i64 = 256;

const DEVIATION: f64 = 0.02;
const EPSILON: f64 = 1e-5;

pub(crate) struct Gpt {
    layers: i64,
    heads: i64,
    width: i64,
    context: i64,
    dropout: f64,
}

impl Gpt {
    pub(crate) fn new(layers: u32, heads: u32, width: u32, dropout: f64, task: &Task) -> Result<Self, EngineError> {
        let Input::Tokens { context } = task.input else {
            return Err(EngineError::Spec {
                field: "model.kind",
                expected: "text for a gpt".to_owned(),
                found: "samples of numbers".to_owned(),
                hint: "use model.kind = \"mlp\" or \"convnet\", or pin the data as text",
            });
        };
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(EngineError::Spec {
                field: "model.heads",
                expected: format!("a divisor of model.width = {width}"),
                found: heads.to_string(),
                hint: "width / heads is the width of one head, often 32 or 64",
            });
        }
        Ok(Self { layers: layers.into(), heads: heads.into(), width: width.into(), context, dropout })
    }

    fn attention(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        let (samples, tokens) = (x.size()[0], x.size()[1]);
        let qkv = pass.linear(x, pass.parameter(), Some(pass.parameter()))?;
        let qkv = qkv.f_view([samples, tokens, 3, self.heads, self.width / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let [q, k, v] = [qkv.f_select(0, 0)?, qkv.f_select(0, 1)?, qkv.f_select(0, 2)?];
        let mixed = pass.attention(&q, &k, &v, self.dropout)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([samples, tokens, self.width])?;
        pass.dropout(pass.linear(&mixed, pass.parameter(), Some(pass.parameter()))?, self.dropout)
    }

    fn feed_forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        let hidden = pass.linear(x, pass.parameter(), Some(pass.parameter()))?.f_gelu("none")?;
        pass.dropout(pass.linear(&hidden, pass.parameter(), Some(pass.parameter()))?, self.dropout)
    }

    fn norm(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.width, Some(pass.parameter()), Some(pass.parameter()), EPSILON, false)
    }
}

fn declare_norm(name: &str, width: i64, declared: &mut Vec<Declared>) {
    declared.push(Declared::new(format!("{name}.weight"), &[width], Initial::One));
    declared.push(Declared::new(format!("{name}.bias"), &[width], Initial::Zero));
}

fn declare_linear(name: &str, [outputs, inputs]: [i64; 2], deviation: f64, declared: &mut Vec<Declared>) {
    declared.push(Declared::new(format!("{name}.weight"), &[outputs, inputs], Initial::Normal { deviation }));
    declared.push(Declared::new(format!("{name}.bias"), &[outputs], Initial::Zero));
}

impl Model for Gpt {
    fn parameters(&self) -> Vec<Declared> {
        let width = self.width;
        let embedding = Initial::Normal { deviation: DEVIATION };
        // Two additions to the residual stream in each block: smaller ones keep its variance with depth.
        let into_residual = DEVIATION / (2.0 * self.layers.max(1) as f64).sqrt();
        let mut declared = vec![
            Declared::new("tokens.weight", &[VOCABULARY, width], embedding),
            Declared::new("positions.weight", &[self.context, width], embedding),
        ];
        for i in 0..self.layers {
            declare_norm(&format!("blocks.{i}.norm1"), width, &mut declared);
            declare_linear(&format!("blocks.{i}.attention.qkv"), [3 * width, width], DEVIATION, &mut declared);
            declare_linear(&format!("blocks.{i}.attention.out"), [width, width], into_residual, &mut declared);
            declare_norm(&format!("blocks.{i}.norm2"), width, &mut declared);
            declare_linear(&format!("blocks.{i}.feed.up"), [4 * width, width], DEVIATION, &mut declared);
            declare_linear(&format!("blocks.{i}.feed.down"), [width, 4 * width], into_residual, &mut declared);
        }
        declare_norm("norm", width, &mut declared);
        declared
    }

    fn draws(&self) -> bool {
        self.dropout > 0.0
    }

    fn forward(&mut self, input: &Tensor, pass: &Pass<'_>) -> Result<Tensor, TchError> {
        let tokens = pass.parameter();
        let x = Tensor::f_embedding(tokens, input, -1, false, false)?.f_add(pass.parameter())?;
        let mut x = pass.dropout(x, self.dropout)?;
        for _ in 0..self.layers {
            x = x.f_add(&self.attention(&self.norm(&x, pass)?, pass)?)?;
            x = x.f_add(&self.feed_forward(&self.norm(&x, pass)?, pass)?)?;
        }
        let x = self.norm(&x, pass)?.f_view([-1, self.width])?;
        pass.linear(&x, tokens, None)
    }
}
