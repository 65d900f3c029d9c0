//! `falcon`: attention and the feed-forward part in parallel, on one layer norm (7B) or on one each (40B); one matrix
//! for queries, keys and values.
//!
//! Almazrouei et al., "The Falcon Series of Open Language Models", 2023.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, parallel_parts};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Falcon;

impl Decoder for Falcon {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Layer, RopeKind::Neox)?, Falcon))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let h = l.norm(x, "attn_norm");
        // The feed-forward part uses the first norm in both cases.
        let of_attention = if l.has("attn_norm_2") { l.norm(x, "attn_norm_2") } else { h };
        parallel_parts(self, l, x, [of_attention, h])
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.plain_ffn(h, UnaryKind::GeluErf)
    }
}
