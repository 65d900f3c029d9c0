//! `gemma2`: as Gemma, with additional norms after attention and after the feed-forward part, a soft cap on scores and
//! on logits, and a window in every other layer.
//!
//! Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, layer_with_post_norms, output};
use super::gemma::scaled_embeddings;
use super::layer::Layer;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Attention, RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Gemma2 {
    scale: f32,
    attn_softcap: Option<f32>,
    final_softcap: Option<f32>,
}

impl Decoder for Gemma2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        let common = common.windowed_by(keys, 4096, |il| il % 2 == 0)?;
        let own = Gemma2 {
            scale: query_scale(keys, &common.sizes, N_LAYER_27B),
            attn_softcap: softcap(keys, "attn_logit_softcapping", 50.0)?,
            final_softcap: softcap(keys, "final_logit_softcapping", 30.0)?,
        };
        Ok((common, own))
    }

    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        scaled_embeddings(common, b)
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer_with_post_norms(self, l, x)
    }

    fn attention(&self, l: &Layer<'_, '_>) -> Attention {
        Attention { scale: self.scale, softcap: self.attn_softcap, ..l.causal() }
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.gated_ffn(h, UnaryKind::Gelu)
    }

    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        let logits = output(common, b, x);
        self.final_softcap.map_or(logits, |cap| logits.softcap(cap))
    }
}

/// A soft cap; 0 is none. The first files lack the key and mean the cap of the published models.
fn softcap(keys: &Keys<'_>, key: &str, published: f32) -> Result<Option<f32>, ModelError> {
    if !keys.has(key) {
        keys.assume(key, published, "the soft cap of the published models, whose first files lack the key");
        return Ok(Some(published));
    }
    keys.opt_positive_or_zero(key)
}

/// Number of layers of the 27B model, the only sign by which a file can be recognized as that model.
const N_LAYER_27B: usize = 46;

/// The scale of the scores: `1 / √head_dim`, but `1 / √(n_embd / n_head)` for the 27B models. It is in no key.
pub(super) fn query_scale(keys: &Keys<'_>, sizes: &Sizes, n_layer_27b: usize) -> f32 {
    if sizes.n_layer != n_layer_27b {
        return sizes.scale();
    }
    let scale = 1.0 / (sizes.n_embd as f32 / sizes.n_head as f32).sqrt();
    keys.assume("attention.scale", scale, "that of the 27B model, recognized by its number of layers");
    scale
}
