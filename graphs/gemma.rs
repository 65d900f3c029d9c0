//! `gemma`: embeddings scaled by the square root of their width, a feed-forward part gated by GELU. The file's norm
//! weights already include the one that the paper adds to them.
//!
//! Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology", 2024.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, token_embeddings};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Gemma;

impl Decoder for Gemma {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Neox)?, Gemma))
    }

    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        scaled_embeddings(common, b)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.gated_ffn(h, UnaryKind::Gelu)
    }
}

/// Token embeddings times the square root of their width.
pub(super) fn scaled_embeddings<'g>(common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
    token_embeddings(common, b).scale((common.sizes.n_embd as f32).sqrt())
}
