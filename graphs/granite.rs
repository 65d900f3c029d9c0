//! `granite`: as Llama, with scale factors for the embeddings, each part's result and the scores, and a divisor of the
//! logits.
//!
//! Granite Team, IBM, "Granite 3.0 Language Models", 2024.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, output, token_embeddings};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Attention, RopeKind};

#[derive(Debug)]
pub(super) struct Granite {
    embedding_scale: f32,
    residual_scale: f32,
    attention_scale: f32,
    logit_scale: f32,
}

impl Decoder for Granite {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Norm)?;
        // For Granite this key is a switch: without it there are no rotary positions.
        if keys.opt_bool("rope.scaling.finetuned")? == Some(false) {
            let reason = "Granite models without rotary positions do not run yet";
            return Err(keys.refuse("rope.scaling.finetuned", false, reason));
        }
        let own = Granite {
            embedding_scale: keys.opt_positive_or_zero("embedding_scale")?.unwrap_or(1.0),
            residual_scale: keys.opt_positive_or_zero("residual_scale")?.unwrap_or(1.0),
            attention_scale: keys.opt_positive_or_zero("attention.scale")?.unwrap_or(common.sizes.scale()),
            logit_scale: keys.opt_positive_or_zero("logit_scale")?.unwrap_or(1.0),
        };
        Ok((common, own))
    }

    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        token_embeddings(common, b).scale(self.embedding_scale)
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let attended = self.attended(l, l.norm(x, "attn_norm"));
        let [attended, x] = l.wanted([attended, x]);
        let attended = l.attn_output(attended).scale(self.residual_scale);
        let x = attended.add(x).named(l.name("ffn_inp"));
        let h = self.ffn(l, l.norm(x, "ffn_norm")).scale(self.residual_scale);
        h.add(x).named(l.name("out"))
    }

    fn attention(&self, l: &Layer<'_, '_>) -> Attention {
        Attention { scale: self.attention_scale, ..l.causal() }
    }

    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        output(common, b, x).scale(1.0 / self.logit_scale)
    }
}
