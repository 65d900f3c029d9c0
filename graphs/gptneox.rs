//! `gptneox`: GPT-NeoX and Pythia. Layer norms, biases everywhere, rotary positions on a part of each head; attention
//! and the feed-forward part in parallel or sequential, depending on the file.
//!
//! Black et al., "GPT-NeoX-20B: An Open-Source Autoregressive Language Model", 2022.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct GptNeoX {
    sizes: Sizes,
    parallel: bool,
    eps: f32,
    rotary: Rotary,
}

impl GptNeoX {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(GptNeoX {
            parallel: keys.opt_bool("use_parallel_residual")?.unwrap_or(true),
            eps: keys.positive("attention.layer_norm_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let with_attention = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = if self.parallel { x } else { with_attention };
        let h = b.layer_norm(h, &name("ffn_norm"), self.eps);
        sizes.ffn(b, il, h, UnaryKind::GeluErf).add(with_attention).named(name("out"))
    }
}

impl Architecture for GptNeoX {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
