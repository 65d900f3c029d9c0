//! `phi3`: Phi 3 and 4. One matrix for queries, keys and values, one for gate and up; LongRoPE factors for contexts
//! within and beyond the original one.
//!
//! Abdin et al., "Phi-3 Technical Report", 2024; Ding et al., "LongRoPE", 2024.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Phi3;

impl Decoder for Phi3 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Neox)?;
        Ok((common.windowed(keys, |_| true)?, Phi3))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.fused_ffn(h)
    }
}
