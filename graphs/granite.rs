//! `granite`: as Llama, with scale factors for the embeddings, each part's result and the scores, and a divisor of the
//! logits.
//!
//! Granite Team, IBM, "Granite 3.0 Language Models", 2024.

use super::decoder::Sizes;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Granite {
    sizes: Sizes,
    embedding_scale: f32,
    residual_scale: f32,
    attention_scale: f32,
    logit_scale: f32,
    eps: f32,
    rotary: Rotary,
}

impl Granite {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        // For Granite this key is a switch: without it there are no rotary positions.
        if keys.opt_bool("rope.scaling.finetuned")? == Some(false) {
            let reason = "Granite models without rotary positions do not run yet";
            return Err(keys.refuse("rope.scaling.finetuned", false, reason));
        }
        Ok(Box::new(Granite {
            embedding_scale: keys.opt_positive("embedding_scale")?.unwrap_or(1.0),
            residual_scale: keys.opt_positive("residual_scale")?.unwrap_or(1.0),
            attention_scale: keys.opt_positive("attention.scale")?.unwrap_or(sizes.scale()),
            logit_scale: keys.opt_positive("logit_scale")?.unwrap_or(1.0),
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Norm, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let attended = b.attend(il, (q, k, v), b.causal(self.attention_scale));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended).scale(self.residual_scale);
        let x = attended.add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        let h = sizes.gated_ffn(b, il, h, UnaryKind::Silu).scale(self.residual_scale);
        h.add(x).named(name("out"))
    }
}

impl Architecture for Granite {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings = || self.sizes.embeddings(b).scale(self.embedding_scale);
        let x = self.sizes.stack(b, embeddings, |il, x| self.layer(b, il, x));
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        b.head(x, norm, |x| {
            let logits = self.sizes.logits(b, x);
            logits.scale(1.0 / self.logit_scale)
        })
    }
}
