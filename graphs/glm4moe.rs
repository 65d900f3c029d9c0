//! `glm4moe`: GLM 4.5 and 4.6. Dense layers, then mixtures of experts selected by sigmoids with a bias, with shared
//! experts; biases for queries, keys and values, rotary positions on a part of each head, in some models a norm for
//! each head.
//!
//! GLM-4.5 Team, "GLM-4.5: Agentic, Reasoning, and Coding (ARC) Foundation Models", 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::experts::SharedExperts;
use super::layer::{Layer, with_norms};
use crate::graph::Tensor;
use crate::model::{Experts, Gating, Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Glm4Moe {
    mixture: SharedExperts,
}

impl Decoder for Glm4Moe {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        let otherwise = Experts { gating: Gating::Sigmoid, ..Experts::new(0, 0, common.sizes.n_ff) };
        let mixture = SharedExperts::read(keys, &common.sizes, otherwise)?;
        Ok((common, Glm4Moe { mixture }))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| l.rotate(if l.has(norm) { l.norm(x, norm) } else { x }))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        self.mixture.ffn(l, h)
    }
}
