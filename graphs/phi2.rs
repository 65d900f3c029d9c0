//! `phi2`: attention and the feed-forward part in parallel on one layer norm; rotary positions on a part of each head;
//! biases everywhere, including the output.
//!
//! Li et al., "Textbooks Are All You Need II: phi-1.5 technical report", 2023.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, parallel_layer};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Phi2;

impl Decoder for Phi2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Layer, RopeKind::Neox)?, Phi2))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        parallel_layer(self, l, x)
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.plain_ffn(h, UnaryKind::Gelu)
    }
}
