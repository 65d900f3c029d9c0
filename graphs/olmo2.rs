//! `olmo2`: OLMo 2 and 3. Norms after attention and after the feed-forward part instead of before; one norm over all
//! heads of queries, and one of keys. In OLMo 3 three of four layers have a window, and rotary positions without
//! scaling.
//!
//! OLMo Team, "2 OLMo 2 Furious", 2024; "Olmo 3", 2025.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, layer_with_norms_after};
use super::layer::{Layer, with_norms};
use super::rotary::Rotary;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Olmo2 {
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl Decoder for Olmo2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let sizes = Sizes::read(keys)?;
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let rotary_local = rotary.local(base.unwrap_or(rotary.rope.freq_base));
        let common = Common::of(keys, NormKind::Rms, sizes, Some(rotary))?;
        Ok((common.windowed(keys, |il| (il + 1) % 4 != 0)?, Olmo2 { rotary_local }))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        layer_with_norms_after(self, l, x)
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| l.rotate_locally(&self.rotary_local, l.norm_over_heads(x, norm)))
    }
}
