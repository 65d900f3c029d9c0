//! `smollm3`: as Llama; every fourth layer has no positions.
//!
//! Bakouch et al., "SmolLM3: smol, multilingual, long-context reasoner", 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

/// One of so many layers has no positions. No key says so.
const EVERY: usize = 4;

#[derive(Debug)]
pub(super) struct SmolLm3;

impl Decoder for SmolLm3 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Norm)?, SmolLm3))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        if (l.il + 1).is_multiple_of(EVERY) { qk } else { qk.map(|x| l.rotate(x)) }
    }
}
