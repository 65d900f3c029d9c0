//! `mistral3`: Ministral 3 and Devstral 2. As Llama, with YaRN that keeps the magnitude, and queries scaled up with
//! their position.
//!
//! Mistral AI's published model code of Ministral 3, 2025.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistral3 {
    sizes: Sizes,
    eps: f32,
    rotary: Rotary,
    /// Growth of the queries with position, per original context size.
    temperature: Option<f32>,
}

impl Mistral3 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        let rotary = Rotary::read(keys, RopeKind::Norm, sizes.head_dim_k, sizes.head_dim_k)?;
        let temperature = keys.opt_real("attention.temperature_scale")?.filter(|&scale| scale != 0.0);
        if temperature.is_some() && rotary.rope.orig_ctx == 0 {
            let reason = "attention.temperature_scale counts in original contexts";
            return Err(keys.refuse("rope.scaling.original_context_length", "missing", reason));
        }
        Ok(Box::new(Mistral3 {
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rotary: rotary.with_log_multiplier(Rotary::log_multiplier(keys)?),
            temperature,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let q = match self.temperature {
            Some(scale) => q.temperature(b.batch().positions, scale, self.rotary.rope.orig_ctx),
            None => q,
        };
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        sizes.gated_ffn(b, il, h, UnaryKind::Silu).add(x).named(name("out"))
    }
}

impl Architecture for Mistral3 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
