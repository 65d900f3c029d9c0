//! `qwen35moe`: as Qwen 3.5 with a mixture of experts and a shared expert, which has its own gate.
//!
//! Qwen Team, "Qwen3.5", 2026.

use super::common::Common;
use super::decoder::Decoder;
use super::delta_net::DeltaNet;
use super::experts::GatedSharedExpert;
use super::layer::Layer;
use super::qwen35;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::KeyHeads;

#[derive(Debug)]
pub(super) struct Qwen35Moe {
    net: DeltaNet,
    mixture: GatedSharedExpert,
}

impl Decoder for Qwen35Moe {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let (common, net) = qwen35::read(keys, KeyHeads::Tiled)?;
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
