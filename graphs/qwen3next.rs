//! `qwen3next`: Qwen3-Next and Qwen3-Coder-Next. As the mixtures of Qwen 3.5, with the heads in the order of the published
//! weights: neighbouring value heads share a key head.
//!
//! Qwen Team, "Qwen3-Next: Towards Ultimate Training & Inference Efficiency", 2025.

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
pub(super) struct Qwen3Next {
    net: DeltaNet,
    mixture: GatedSharedExpert,
}

impl Decoder for Qwen3Next {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let (common, net) = qwen35::read(keys, KeyHeads::Grouped)?;
        let n_ff = common.sizes.n_ff;
        let mixture = GatedSharedExpert::read(keys, Experts::new(0, 0, n_ff), n_ff)?;
        Ok((common, Qwen3Next { net, mixture }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        qwen35::layer(self, &self.net, l, x)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        self.mixture.ffn(l, h)
    }
}
