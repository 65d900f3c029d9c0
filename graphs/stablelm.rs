//! `stablelm`: layer norms, rotary positions on a part of each head, a gated feed-forward part. StableLM 2 12B has a
//! norm for each head, and its feed-forward part runs in parallel with attention, without its own norm.
//!
//! Bellagente et al., "Stable LM 2 1.6B Technical Report", 2024.

use super::decoder::{Sizes, head_norm, normed_if};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct StableLm {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
}

impl StableLm {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        // Redundant with the absence of `ffn_norm`.
        let parallel = keys.tensor_shape("blk.0.ffn_norm.weight").is_none();
        if let Some(other) = keys.opt_bool("use_parallel_residual")?.filter(|&said| said != parallel) {
            let has = if parallel { "no" } else { "a" };
            let reason = format!("the file has {has} tensor blk.0.ffn_norm.weight, which says otherwise");
            return Err(keys.refuse("use_parallel_residual", other, reason));
        }
        Ok(Box::new(StableLm {
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
        let normed = |x, part| normed_if(b, x, &name(part), |x, name| head_norm(b, x, name, self.eps));
        let q = self.rotary.turn(b, normed(q, "attn_q_norm"));
        let k = self.rotary.turn(b, normed(k, "attn_k_norm"));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, h, x] = [attended, h, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = match b.has(&name("ffn_norm.weight")) {
            true => b.layer_norm(x, &name("ffn_norm"), self.eps),
            false => h,
        };
        sizes.gated_ffn(b, il, h, UnaryKind::Silu).add(x).named(name("out"))
    }
}

impl Architecture for StableLm {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
