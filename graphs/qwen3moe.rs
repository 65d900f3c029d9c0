//! `qwen3moe`: as Qwen 3 with a mixture of experts.
//!
//! Yang et al., "Qwen3 Technical Report", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, normed_and_positioned};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Qwen3Moe {
    experts: Experts,
}

impl Decoder for Qwen3Moe {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        let experts = Experts::read(keys, Experts::new(0, 0, common.sizes.n_ff))?;
        Ok((common, Qwen3Moe { experts }))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        normed_and_positioned(l, qk)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.moe(h, &self.experts)
    }
}
