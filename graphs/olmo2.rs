//! `olmo2`: OLMo 2 and 3. Norms after attention and after the feed-forward part instead of before; one norm over all
//! heads of queries, and one of keys. In OLMo 3 three of four layers have a window, and rotary positions without
//! scaling.
//!
//! OLMo Team, "2 OLMo 2 Furious", 2024; "Olmo 3", 2025.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::{Layer, heads, with_norms};
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
        let attended = self.attended(l, x);
        let [attended, x] = l.wanted([attended, x]);
        let attended = l.norm(l.attn_output(attended), "post_attention_norm");
        let x = attended.add(x).named(l.name("ffn_inp"));
        l.norm(self.ffn(l, x), "post_ffw_norm").add(x).named(l.name("out"))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        with_norms(qk, |x, norm| {
            let (dim, n_head, n_tokens) = (x.dim(0), x.dim(1), x.dim(2));
            let normed = l.norm(x.reshape([dim * n_head, n_tokens]), norm);
            l.rotate_locally(&self.rotary_local, heads(normed, n_head))
        })
    }
}
