//! `seed_oss`: Seed-OSS. As Qwen 2, with another name for the norm before the feed-forward part.
//!
//! ByteDance Seed, "Seed-OSS Open-Source Models", 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct SeedOss;

impl Decoder for SeedOss {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        Ok((Common::read(keys, NormKind::Rms, RopeKind::Neox)?, SeedOss))
    }
}
