//! `qwen2moe`: as Qwen 2 with a mixture of experts and a shared expert, which has its own gate.
//!
//! Yang et al., "Qwen2 Technical Report", 2024.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::experts::GatedSharedExpert;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Qwen2Moe {
    mixture: GatedSharedExpert,
}

impl Decoder for Qwen2Moe {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        let n_ff = common.sizes.n_ff;
        // Without expert_feed_forward_length, the experts used by a token have the layer's width in total.
        let n_used = keys.count("expert_used_count", 1..=1 << 10)?;
        let otherwise = Experts { normalise: false, ..Experts::new(0, 0, (n_ff / n_used).max(1)) };
        Ok((common, Qwen2Moe { mixture: GatedSharedExpert::read(keys, otherwise, n_ff)? }))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        self.mixture.ffn(l, h)
    }
}
