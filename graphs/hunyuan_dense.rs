//! `hunyuan-dense`: Hunyuan's dense models. As Qwen 3 with the norms of queries and keys after their rotary positions.
//!
//! Tencent Hunyuan Team, "Hunyuan-7B", 2025. The base of the positions in the file has the longer context in it.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::{Layer, with_norms};
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct HunyuanDense;

impl Decoder for HunyuanDense {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Neox)?, HunyuanDense))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| l.norm(l.rotate(x), norm))
    }
}
