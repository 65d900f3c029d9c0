//! `gptneox`: GPT-NeoX and Pythia. Layer norms, biases everywhere, rotary positions on a part of each head; attention
//! and the feed-forward part in parallel or sequential, depending on the file.
//!
//! Black et al., "GPT-NeoX-20B: An Open-Source Autoregressive Language Model", 2022.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct GptNeoX {
    parallel: bool,
}

impl Decoder for GptNeoX {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Layer, RopeKind::Neox)?;
        Ok((common, GptNeoX { parallel: keys.opt_bool("use_parallel_residual")?.unwrap_or(true) }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let attended = self.attended(l, l.norm(x, "attn_norm"));
        let [attended, x] = l.wanted([attended, x]);
        let with_attention = l.attn_output(attended).add(x).named(l.name("ffn_inp"));
        let h = l.norm(if self.parallel { x } else { with_attention }, "ffn_norm");
        self.ffn(l, h).add(with_attention).named(l.name("out"))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.plain_ffn(h, UnaryKind::GeluErf)
    }
}
