//! `stablelm`: layer norms, rotary positions on a part of each head, a gated feed-forward part. StableLM 2 12B has a
//! norm for each head, and its feed-forward part runs in parallel with attention, without its own norm.
//!
//! Bellagente et al., "Stable LM 2 1.6B Technical Report", 2024.

use super::common::{Common, NormKind};
use super::decoder::{Decoder, head_normed_and_positioned};
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::RopeKind;

#[derive(Debug)]
pub(super) struct StableLm;

impl Decoder for StableLm {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Layer, RopeKind::Neox)?;
        // Redundant with the absence of `ffn_norm`.
        let parallel = keys.tensor_shape("blk.0.ffn_norm.weight").is_none();
        if let Some(other) = keys.opt_bool("use_parallel_residual")?.filter(|&said| said != parallel) {
            let has = if parallel { "no" } else { "a" };
            let reason = format!("the file has {has} tensor blk.0.ffn_norm.weight, which says otherwise");
            return Err(keys.refuse("use_parallel_residual", other, reason));
        }
        Ok((common, StableLm))
    }

    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let h = l.norm(x, "attn_norm");
        let attended = self.attended(l, h);
        let [attended, h, x] = l.wanted([attended, h, x]);
        let x = l.attn_output(attended).add(x).named(l.name("ffn_inp"));
        let h = if l.has("ffn_norm") { l.norm(x, "ffn_norm") } else { h };
        self.ffn(l, h).add(x).named(l.name("out"))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        head_normed_and_positioned(l, qk)
    }
}
