//! `minimax-m2`: MiniMax M2. One norm over all heads of queries, and one of keys; rotary positions on a part of each head; a mixture
//! of experts selected by sigmoids with a bias.
//!
//! MiniMax, "MiniMax-M2", 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::{Layer, with_norms};
use crate::graph::Tensor;
use crate::model::{Experts, Gating, Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct MiniMaxM2 {
    experts: Experts,
}

impl Decoder for MiniMaxM2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        let otherwise = Experts { gating: Gating::Sigmoid, ..Experts::new(0, 0, common.sizes.n_ff) };
        let experts = Experts::read(keys, otherwise)?;
        Ok((common, MiniMaxM2 { experts }))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| l.rotate(l.norm_over_heads(x, norm)))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.moe(h, &self.experts)
    }
}
