//! `gpt2`: learned positions, layer norms, biases everywhere, a feed-forward part without a gate.
//!
//! Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, token_embeddings};
use super::layer::Layer;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::UnaryKind;

#[derive(Debug)]
pub(super) struct Gpt2;

impl Decoder for Gpt2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::of(keys, NormKind::Layer, Sizes::read(keys)?, None)?, Gpt2))
    }

    fn n_positions(&self, common: &Common) -> Option<usize> {
        Some(common.sizes.n_ctx_train)
    }

    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        let table = b.weight("position_embd.weight", [common.sizes.n_embd, common.sizes.n_ctx_train]);
        token_embeddings(common, b).add(table.get_rows(b.position(0)))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.plain_ffn(h, UnaryKind::Gelu)
    }
}
