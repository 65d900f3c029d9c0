//! `qwen2`: Qwen 1.5 and 2. As Llama, with biases for queries, keys and values, and rotary positions on halves.
//!
//! Yang et al., "Qwen2 Technical Report", 2024.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen2 {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
}

impl Qwen2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Qwen2 {
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        sizes.gated_ffn(b, il, h, UnaryKind::Silu).add(x).named(name("out"))
    }
}

impl Architecture for Qwen2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
