//! `glm4moe`: GLM 4.5 and 4.6. Dense layers, then mixtures of experts selected by sigmoids with a bias, with shared
//! experts; biases for queries, keys and values, rotary positions on a part of each head, in some models a norm for
//! each head.
//!
//! GLM-4.5 Team, "GLM-4.5: Agentic, Reasoning, and Coding (ARC) Foundation Models", 2025.

use super::decoder::{SharedExperts, Sizes, normed_if};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Experts, Gating, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::RopeKind;

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Glm4Moe {
    sizes: Sizes,
    mixture: SharedExperts,
    /// Additional layers after the last for multi-token prediction; unused here.
    n_layer_nextn: usize,
    eps: f32,
    rotary: Rotary,
}

impl Glm4Moe {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let mut sizes = Sizes::read(keys)?;
        let n_layer_nextn = keys.opt_count("nextn_predict_layers", 0..=sizes.n_layer - 1)?.unwrap_or(0);
        sizes.n_layer -= n_layer_nextn;
        let otherwise = Experts { gating: Gating::Sigmoid, ..Experts::new(0, 0, sizes.n_ff) };
        Ok(Box::new(Glm4Moe {
            mixture: SharedExperts::read(keys, &sizes, otherwise)?,
            n_layer_nextn,
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
        let normed = |x, part| normed_if(b, x, &name(part), |x, name| b.rms_norm(x, name, self.eps));
        let q = self.rotary.turn(b, normed(q, "attn_q_norm"));
        let k = self.rotary.turn(b, normed(k, "attn_k_norm"));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("post_attention_norm"), self.eps);
        self.mixture.ffn(b, sizes, il, h).add(x).named(name("out"))
    }
}

impl Architecture for Glm4Moe {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        for il in self.sizes.n_layer..self.sizes.n_layer + self.n_layer_nextn {
            b.leave_out(&format!("blk.{il}."));
        }
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
