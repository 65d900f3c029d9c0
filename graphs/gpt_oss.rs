//! `gpt-oss`: mixtures of experts with a clamped SwiGLU, biases everywhere, a window in every other layer, YaRN, and
//! sinks: one score per head that enters the softmax without a value.
//!
//! OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025, and its published model code.

use super::decoder::{Sizes, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{
    Architecture, ExpertActivation, Experts, Gating, Head, Heads, Keys, ModelBuilder, ModelError, ModelShape,
    Values,
};
use crate::ops::{Attention, Rope, RopeKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct GptOss {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    experts: Experts,
    eps: f32,
    rotary: Rotary,
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl GptOss {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        // Constants of the published model code; they are in no key.
        let activation = ExpertActivation::ClampedSwiglu { alpha: 1.702, limit: 7.0 };
        let gating = Gating::SoftmaxOfChosen;
        let otherwise = Experts { gating, activation, ..Experts::new(0, 0, sizes.n_ff) };
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let base = base.unwrap_or(rotary.rope.freq_base);
        // The model is published with `truncate: false`, which has no key.
        let rotary = rotary.with(|rope| Rope { whole_pairs: false, ..rope.clone() });
        Ok(Box::new(GptOss {
            windows: windows(keys, sizes.n_layer, |il| il % 2 == 0)?,
            experts: Experts::read(keys, otherwise)?,
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rotary_local: rotary.with(|rope| Rope { freq_base: base, ..rope.clone() }),
            rotary,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let window = self.windows[il];
        let rotary = if window.is_some() { &self.rotary_local } else { &self.rotary };
        let [q, k] = [q, k].map(|x| rotary.turn(b, x));
        let sinks = Some(b.weight(&name("attn_sinks.weight"), [sizes.n_head]));
        let heads = Heads { q, k, v: Values::Own(v), sinks };
        let attended = b.attend(il, heads, Attention { window, ..b.causal(sizes.scale()) });

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("post_attention_norm"), self.eps);
        b.moe(h, &format!("blk.{il}"), &self.experts).add(x).named(name("out"))
    }
}

impl Architecture for GptOss {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
