//! `gemma`: embeddings scaled by the square root of their width, a feed-forward part gated by GELU. The file's norm
//! weights already include the one that the paper adds to them.
//!
//! Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology", 2024.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
}

impl Gemma {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Gemma {
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
        sizes.gated_ffn(b, il, h, UnaryKind::Gelu).add(x).named(name("out"))
    }
}

impl Architecture for Gemma {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings = || self.sizes.embeddings(b).scale((self.sizes.n_embd as f32).sqrt());
        let x = self.sizes.stack(b, embeddings, |il, x| self.layer(b, il, x));
        b.head(x, |x| b.rms_norm(x, "output_norm", self.eps), |x| self.sizes.logits(b, x))
    }
}
