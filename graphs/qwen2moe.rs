//! `qwen2moe`: as Qwen 2 with a mixture of experts and a shared expert, which has its own gate.
//!
//! Yang et al., "Qwen2 Technical Report", 2024.

use super::decoder::{Sizes, gated_part};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Experts, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen2Moe {
    sizes: Sizes,
    experts: Experts,
    /// Inner width of the shared expert.
    n_ff_shared: usize,
    eps: f32,
    rotary: Rotary,
}

impl Qwen2Moe {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        // Without expert_feed_forward_length, the experts used by a token have the layer's width in total.
        let n_used = keys.count("expert_used_count", 1..=1 << 10)?;
        let otherwise = Experts { normalise: false, ..Experts::new(0, 0, (sizes.n_ff / n_used).max(1)) };
        let experts = Experts::read(keys, otherwise)?;
        let n_ff_shared = keys.opt_count("expert_shared_feed_forward_length", 1..=1 << 22)?;
        Ok(Box::new(Qwen2Moe {
            n_ff_shared: n_ff_shared.unwrap_or(sizes.n_ff),
            experts,
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
        let gate = b.linear(h, &name("ffn_gate_inp_shexp"), 1).sigmoid();
        let shared =
            gated_part(b, h, (&format!("blk.{il}"), "_shexp"), self.n_ff_shared, UnaryKind::Silu).mul(gate);
        b.moe(h, &format!("blk.{il}"), &self.experts).add(shared).add(x).named(name("out"))
    }
}

impl Architecture for Qwen2Moe {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
