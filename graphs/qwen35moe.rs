//! `qwen35moe`: as Qwen 3.5 with a mixture of experts and a shared expert, which has its own gate. `qwen3next`: Qwen3-Next and
//! Qwen3-Coder-Next, the same with the heads in the order of the published weights.
//!
//! Qwen Team, "Qwen3-Next: Towards Ultimate Training & Inference Efficiency", 2025; "Qwen3.5", 2026.

use super::common::Common;
use super::decoder::Decoder;
use super::delta_net::DeltaNet;
use super::experts::GatedSharedExpert;
use super::layer::Layer;
use super::qwen35;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::KeyHeads;

/// Value heads take the key heads in turn; with `GROUPED` neighbouring value heads share one.
#[derive(Debug)]
pub(super) struct Qwen35Moe<const GROUPED: bool> {
    net: DeltaNet,
    mixture: GatedSharedExpert,
}

impl<const GROUPED: bool> Decoder for Qwen35Moe<GROUPED> {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let key_heads = if GROUPED { KeyHeads::Grouped } else { KeyHeads::Tiled };
        let (common, net) = qwen35::read(keys, key_heads)?;
        let n_ff = common.sizes.n_ff;
        let mixture = GatedSharedExpert::read(keys, Experts::new(0, 0, n_ff), n_ff)?;
        Ok((common, Qwen35Moe { net, mixture }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        qwen35::layer(self, &self.net, l, x)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        self.mixture.ffn(l, h)
    }
}
