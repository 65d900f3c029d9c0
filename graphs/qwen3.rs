//! `qwen3`: as Qwen 2 without biases; each head of queries and keys has an RMS norm before its rotary positions.
//!
//! Yang et al., "Qwen3 Technical Report", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, normed_and_positioned};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Qwen3;

impl Decoder for Qwen3 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Neox)?, Qwen3))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        normed_and_positioned(l, qk)
    }
}
