//! `gemma3`: as Gemma 2 without soft caps, with a norm for each head of queries and keys. Five of six layers have a
//! window and their own rotary base.
//!
//! Gemma Team, "Gemma 3 Technical Report", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, layer_with_post_norms, output};
use super::gemma::scaled_embeddings;
use super::gemma2::query_scale;
use super::layer::{Layer, with_norms};
use super::rotary::Rotary;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Attention, RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Gemma3 {
    scale: f32,
    final_softcap: Option<f32>,
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl Decoder for Gemma3 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let sizes = Sizes::read(keys)?;
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let own = Gemma3 {
            scale: query_scale(keys, &sizes, N_LAYER_27B),
            final_softcap: keys.opt_positive_or_zero("final_logit_softcapping")?,
            rotary_local: rotary.local(base.unwrap_or(10_000.0)),
        };
        let common = Common::of(keys, NormKind::Rms, sizes, Some(rotary))?;
        Ok((common.windowed(keys, |il| (il + 1) % 6 != 0)?, own))
    }

    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        scaled_embeddings(common, b)
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer_with_post_norms(self, l, x)
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| l.rotate_locally(&self.rotary_local, l.norm(x, norm)))
    }

    fn attention(&self, l: &Layer<'_, '_>) -> Attention {
        Attention { scale: self.scale, ..l.causal() }
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.gated_ffn(h, UnaryKind::Gelu)
    }

    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        let logits = output(common, b, x);
        self.final_softcap.map_or(logits, |cap| logits.softcap(cap))
    }
}

/// Number of layers of the 27B model.
const N_LAYER_27B: usize = 62;
