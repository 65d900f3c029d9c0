//! `qwen35`: Qwen 3.5 to 3.8. Gated delta nets, and in every fourth layer attention with an output gate; rotary positions
//! on a part of each head.
//!
//! Qwen Team, "Qwen3.5", 2026. Images have a position in time, height and width; for text these are equal.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::delta_net::DeltaNet;
use super::layer::Layer;
use super::rotary::Rotary;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{KeyHeads, RopeKind};

#[derive(Debug)]
pub(super) struct Qwen35 {
    net: DeltaNet,
}

impl Decoder for Qwen35 {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let (common, net) = read(keys, KeyHeads::Tiled)?;
        Ok((common, Qwen35 { net }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer(self, &self.net, l, x)
    }
}

/// The hyper-parameters that all architectures of this family have.
pub(super) fn read(keys: &Keys<'_>, key_heads: KeyHeads) -> Result<(Common, DeltaNet), ModelError> {
    let sizes = Sizes::read(keys)?;
    let net = DeltaNet::read(keys, &sizes, key_heads)?;
    let rotary = Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k / 4)?;
    Ok((Common::of(keys, NormKind::Rms, sizes, Some(rotary))?, net))
}

/// A layer of either kind with the architecture's feed-forward part.
pub(super) fn layer<'g, D: Decoder>(own: &D, net: &DeltaNet, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
    let x = net.mixed(l, x);
    own.ffn(l, l.norm(x, D::FFN_NORM)).add(x).named(l.name("out"))
}
