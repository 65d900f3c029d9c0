//! `chatglm`: ChatGLM 3 and GLM 4 (9B). Rotary positions on neighbouring pairs of half of each head; one matrix for
//! queries, keys and values, with a bias, and one for gate and up.
//!
//! Team GLM, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools", 2024.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct ChatGlm;

impl Decoder for ChatGlm {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read_half_rotated(keys, NormKind::Rms, RopeKind::Norm)?, ChatGlm))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.fused_ffn(h)
    }
}
