//! `mistral3`: Ministral 3 and Devstral 2. As Llama, with YaRN that keeps the magnitude, and queries scaled up with
//! their position.
//!
//! Mistral AI's published model code of Ministral 3, 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct Mistral3 {
    temperature: Option<Temperature>,
}

/// The growth of queries with their position.
#[derive(Debug)]
struct Temperature {
    /// Growth per original context.
    scale: f32,
    /// Tokens of the original context.
    orig_ctx: usize,
}

impl Decoder for Mistral3 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Norm)?;
        let orig_ctx = common.rotary.as_ref().map_or(0, |rotary| rotary.rope.orig_ctx);
        let scale = keys.opt_real("attention.temperature_scale")?.filter(|&scale| scale != 0.0);
        if scale.is_some() && orig_ctx == 0 {
            let reason = "attention.temperature_scale counts in original contexts";
            return Err(keys.refuse("rope.scaling.original_context_length", "missing", reason));
        }
        Ok((common, Mistral3 { temperature: scale.map(|scale| Temperature { scale, orig_ctx }) }))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        let [q, k] = qk.map(|x| l.rotate(x));
        match self.temperature {
            Some(Temperature { scale, orig_ctx }) => {
                [q.temperature(l.b.batch().positions, scale, orig_ctx), k]
            }
            None => [q, k],
        }
    }
}
