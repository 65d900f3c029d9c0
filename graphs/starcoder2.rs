//! `starcoder2`: layer norms and biases, rotary positions on halves, grouped-query attention, a feed-forward part
//! without a gate.
//!
//! Lozhkov et al., "StarCoder 2 and The Stack v2: The Next Generation", 2024.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct StarCoder2;

impl Decoder for StarCoder2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Layer, RopeKind::Neox)?;
        Ok((common.windowed(keys, |_| true)?, StarCoder2))
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.plain_ffn(h, UnaryKind::Gelu)
    }
}
