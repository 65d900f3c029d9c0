//! `gpt-oss`: mixtures of experts with a clamped SwiGLU, biases everywhere, a window in every other layer, YaRN, and
//! sinks: one score per head that enters the softmax without a value.
//!
//! OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025, and its published model code.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use super::rotary::Rotary;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{ExpertActivation, Experts, Gating, Heads, Keys, ModelError, Values};
use crate::ops::{Rope, RopeKind};

#[derive(Debug)]
pub(super) struct GptOss {
    experts: Experts,
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl Decoder for GptOss {
    const FFN_NORM: &'static str = "post_attention_norm";

    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let sizes = Sizes::read(keys)?;
        // Constants of the published model code; they are in no key.
        let activation = ExpertActivation::ClampedSwiglu { alpha: 1.702, limit: 7.0 };
        let gating = Gating::SoftmaxOfChosen;
        let otherwise = Experts { gating, activation, ..Experts::new(0, 0, sizes.n_ff) };
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let base = base.unwrap_or(rotary.rope.freq_base);
        let rotary = rotary.with(|rope| Rope { whole_pairs: truncate(keys, rope), ..rope.clone() });
        let own = GptOss {
            experts: Experts::read(keys, otherwise)?,
            rotary_local: rotary.with(|rope| Rope { freq_base: base, ..rope.clone() }),
        };
        let common = Common::of(keys, NormKind::Rms, sizes, Some(rotary))?;
        Ok((common.windowed(keys, |il| il % 2 == 0)?, own))
    }

    fn attended<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let [q, k, v] = l.qkv(h);
        let [q, k] = [q, k].map(|x| l.rotate_locally(&self.rotary_local, x));
        let sinks = Some(l.b.weight(&l.name("attn_sinks.weight"), [l.common.sizes.n_head]));
        l.b.attend(l.il, Heads { q, k, v: Values::Own(v), sinks }, l.causal())
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.moe(h, &self.experts)
    }
}

/// True if the ends of YaRN's ramp are rounded to whole pairs.
fn truncate(keys: &Keys<'_>, rope: &Rope) -> bool {
    let key = "rope.scaling.yarn_truncate";
    if keys.has(key) {
        return rope.whole_pairs;
    }
    if rope.ext_factor != 0.0 {
        keys.assume(key, false, "the model is published so");
    }
    false
}
