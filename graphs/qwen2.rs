//! `qwen2`: Qwen 1.5 and 2. As Llama, with biases for queries, keys and values, and rotary positions on halves.
//!
//! Yang et al., "Qwen2 Technical Report", 2024.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Qwen2;

impl Decoder for Qwen2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Neox)?, Qwen2))
    }
}
