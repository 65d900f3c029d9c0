//! `command-r`: attention and a gated feed-forward part in parallel on one layer norm without a bias; logits are
//! scaled. Command R+ has a norm for each head of queries and keys.
//!
//! Cohere's published model code of Command R.

use super::decoder::{Sizes, head_norm, normed_if};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandR {
    sizes: Sizes,
    logit_scale: f32,
    eps: f32,
    rotary: Rotary,
}

impl CommandR {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(CommandR {
            logit_scale: keys.opt_positive("logit_scale")?.unwrap_or(1.0),
            eps: keys.positive("attention.layer_norm_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Norm, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let normed = |x, part| normed_if(b, x, &name(part), |x, name| head_norm(b, x, name, self.eps));
        let q = self.rotary.turn(b, normed(q, "attn_q_norm"));
        let k = self.rotary.turn(b, normed(k, "attn_k_norm"));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, h, x] = [attended, h, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        sizes.gated_ffn(b, il, h, UnaryKind::Silu).add(attended).add(x).named(name("out"))
    }
}

impl Architecture for CommandR {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let x = self.sizes.stack(b, || self.sizes.embeddings(b), |il, x| self.layer(b, il, x));
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        b.head(x, norm, |x| {
            let logits = self.sizes.logits(b, x);
            logits.scale(self.logit_scale)
        })
    }
}
