//! `exaone4`: EXAONE 4. Norms after attention and after the feed-forward part instead of before, and one for each head of queries
//! and keys. The 32B model has a window and rotary positions in three of four layers, and neither in the fourth.
//!
//! LG AI Research, "EXAONE 4.0: Unified Large Language Models Integrating Non-reasoning and Reasoning Modes", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, layer_with_norms_after};
use super::layer::{Layer, with_norms};
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Exaone4;

impl Decoder for Exaone4 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        Ok((common.windowed(keys, |il| (il + 1) % 4 != 0)?, Exaone4))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer_with_norms_after(self, l, x)
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        // The models without windows have positions in all layers.
        let rotates = l.window().is_some() || l.common.windows.iter().all(Option::is_none);
        with_norms(qk, |x, norm| {
            let x = l.norm(x, norm);
            if rotates { l.rotate(x) } else { x }
        })
    }
}
