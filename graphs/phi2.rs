//! `phi2`: attention and the feed-forward part in parallel on one layer norm; rotary positions on a part of each head;
//! biases everywhere, including the output.
//!
//! Li et al., "Textbooks Are All You Need II: phi-1.5 technical report", 2023.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Phi2 {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
}

impl Phi2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Phi2 {
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

        let [attended, h, x] = [attended, h, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        sizes.ffn(b, il, h, UnaryKind::Gelu).add(attended).add(x).named(name("out"))
    }
}

impl Architecture for Phi2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
