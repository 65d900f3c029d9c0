//! `gemma2`: as Gemma, with additional norms after attention and after the feed-forward part, a soft cap on scores and
//! on logits, and a window in every other layer.
//!
//! Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.

use super::decoder::{Sizes, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma2 {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    eps: f32,
    scale: f32,
    attn_softcap: Option<f32>,
    final_softcap: Option<f32>,
    rotary: Rotary,
}

impl Gemma2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Gemma2 {
            windows: windows(keys, sizes.n_layer, |il| il % 2 == 0)?,
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            scale: query_scale(&sizes, N_LAYER_27B),
            attn_softcap: keys.opt_positive("attn_logit_softcapping")?,
            final_softcap: keys.opt_positive("final_logit_softcapping")?,
            rotary: Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let (window, softcap) = (self.windows[il], self.attn_softcap);
        let attended = b.attend(il, (q, k, v), Attention { window, softcap, ..b.causal(self.scale) });

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        let x = b.rms_norm(attended, &name("post_attention_norm"), self.eps).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        let h = sizes.gated_ffn(b, il, h, UnaryKind::Gelu);
        b.rms_norm(h, &name("post_ffw_norm"), self.eps).add(x).named(name("out"))
    }
}

/// Number of layers of the 27B model, the only sign by which a file can be recognized as that model.
const N_LAYER_27B: usize = 46;

/// The scale of the scores: `1 / √head_dim`, but `1 / √(n_embd / n_head)` for the 27B models. It is in no key.
pub(super) fn query_scale(sizes: &Sizes, n_layer_27b: usize) -> f32 {
    match sizes.n_layer == n_layer_27b {
        true => 1.0 / (sizes.n_embd as f32 / sizes.n_head as f32).sqrt(),
        false => sizes.scale(),
    }
}

impl Architecture for Gemma2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings = || self.sizes.embeddings(b).scale((self.sizes.n_embd as f32).sqrt());
        let x = self.sizes.stack(b, embeddings, |il, x| self.layer(b, il, x));
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        b.head(x, norm, |x| {
            let logits = self.sizes.logits(b, x);
            self.final_softcap.map_or(logits, |cap| logits.softcap(cap))
        })
    }
}
