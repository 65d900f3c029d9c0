//! `command-r`: attention and a gated feed-forward part in parallel on one layer norm without a bias; logits are
//! scaled. Command R+ has a norm for each head of queries and keys.
//!
//! Cohere's published model code of Command R.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, head_normed_and_positioned, output, parallel_layer};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct CommandR {
    logit_scale: f32,
}

impl Decoder for CommandR {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Layer, RopeKind::Norm)?;
        Ok((common, CommandR { logit_scale: keys.opt_positive_or_zero("logit_scale")?.unwrap_or(1.0) }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        parallel_layer(self, l, x)
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        head_normed_and_positioned(l, qk)
    }

    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        output(common, b, x).scale(self.logit_scale)
    }
}
