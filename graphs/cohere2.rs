//! `cohere2`: Command R7B and A. As Command R; three of four layers have a window and rotary positions, the fourth has
//! neither.
//!
//! Cohere Team, "Command A: An Enterprise-Ready Large Language Model", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, output, parallel_layer};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Cohere2 {
    logit_scale: f32,
}

impl Decoder for Cohere2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Layer, RopeKind::Norm)?;
        let logit_scale = keys.opt_positive_or_zero("logit_scale")?.unwrap_or(1.0);
        Ok((common.windowed(keys, |il| (il + 1) % 4 != 0)?, Cohere2 { logit_scale }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        parallel_layer(self, l, x)
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        if l.window().is_some() { qk.map(|x| l.rotate(x)) } else { qk }
    }

    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        output(common, b, x).scale(self.logit_scale)
    }
}
