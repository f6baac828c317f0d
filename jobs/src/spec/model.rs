//! What a job trains.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[model]`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ModelSpec {
    /// Fully connected layers with ReLU between.
    Mlp {
        /// Width of each hidden layer.
        #[schemars(length(max = 64), inner(range(min = 1, max = 65_536)))]
        hidden: Vec<u32>,
        /// After each hidden layer, while training.
        #[serde(default)]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        dropout: f64,
    },
    /// 3x3 convolutions with BatchNorm and ReLU, halved in size by max-pooling after each, then a linear head.
    Convnet {
        /// Channels of each block.
        #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65_536)))]
        channels: Vec<u32>,
        /// Before the head, while training.
        #[serde(default)]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        dropout: f64,
    },
    /// A byte-level transformer decoder with learned positions and pre-norm blocks.
    Gpt {
        /// Blocks.
        #[schemars(range(min = 1, max = 512))]
        layers: u32,
        /// Attention heads; divides `width`.
        #[schemars(range(min = 1, max = 512))]
        heads: u32,
        /// Width of the residual stream.
        #[schemars(range(min = 1, max = 65_536))]
        width: u32,
        /// Bytes that it sees at a time.
        #[schemars(range(min = 1, max = 65_536))]
        context: u32,
        /// On embeddings, attention and blocks, while training.
        #[serde(default)]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        dropout: f64,
    },
    /// A module of your own, exported from Python with `torch.jit.script`.
    Torchscript {
        /// The exported file; its parameters are where training starts.
        #[schemars(length(min = 1))]
        path: String,
        /// Of the file's bytes; `trainctl model pin` prints it.
        #[schemars(extend("format" = "blake3-digest"))]
        digest: String,
        /// Bytes of text that it sees at a time; for text only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 65_536))]
        context: Option<u32>,
    },
}
