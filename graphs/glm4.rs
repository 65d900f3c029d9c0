//! `glm4`: GLM 4 (0414). As ChatGLM, with additional norms after attention and after the feed-forward part.
//!
//! Team GLM, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools", 2024; the additional norms
//! are in the published model code of GLM-4-0414.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, layer_with_post_norms};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Glm4;

impl Decoder for Glm4 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read_half_rotated(keys, NormKind::Rms, RopeKind::Norm)?, Glm4))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer_with_post_norms(self, l, x)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.fused_ffn(h)
    }
}
