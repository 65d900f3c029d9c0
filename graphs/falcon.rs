//! `falcon`: attention and the feed-forward part in parallel, on one layer norm (7B) or on one each (40B); one matrix
//! for queries, keys and values.
//!
//! Almazrouei et al., "The Falcon Series of Open Language Models", 2023.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Falcon {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
}

impl Falcon {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Falcon {
            eps: keys.positive("attention.layer_norm_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        // The feed-forward part uses the first norm in both cases.
        let of_attention = match b.has(&name("attn_norm_2.weight")) {
            true => b.layer_norm(x, &name("attn_norm_2"), self.eps),
            false => h,
        };
        let [q, k, v] = sizes.qkv(b, il, of_attention);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, h, x] = [attended, h, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        sizes.ffn(b, il, h, UnaryKind::GeluErf).add(attended).add(x).named(name("out"))
    }
}

impl Architecture for Falcon {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
