//! `qwen3moe`: as Qwen 3 with a mixture of experts.
//!
//! Yang et al., "Qwen3 Technical Report", 2025.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Experts, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::RopeKind;

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Moe {
    sizes: Sizes,
    experts: Experts,
    eps: f32,
    rotary: Rotary,
}

impl Qwen3Moe {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Qwen3Moe {
            experts: Experts::read(keys, Experts::new(0, 0, sizes.n_ff))?,
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
        let q = self.rotary.turn(b, b.rms_norm(q, &name("attn_q_norm"), self.eps));
        let k = self.rotary.turn(b, b.rms_norm(k, &name("attn_k_norm"), self.eps));
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        b.moe(h, &format!("blk.{il}"), &self.experts).add(x).named(name("out"))
    }
}

impl Architecture for Qwen3Moe {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
