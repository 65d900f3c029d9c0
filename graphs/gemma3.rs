//! `gemma3`: as Gemma 2 without soft caps, with a norm for each head of queries and keys. Five of six layers have a
//! window and their own rotary base.
//!
//! Gemma Team, "Gemma 3 Technical Report", 2025.

use super::decoder::{Sizes, windows};
use super::gemma2::query_scale;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma3 {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    eps: f32,
    scale: f32,
    final_softcap: Option<f32>,
    rotary: Rotary,
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl Gemma3 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let base = base.unwrap_or(10_000.0);
        Ok(Box::new(Gemma3 {
            windows: windows(keys, sizes.n_layer, |il| (il + 1) % 6 != 0)?,
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            scale: query_scale(&sizes, N_LAYER_27B),
            final_softcap: keys.opt_positive("final_logit_softcapping")?,
            rotary_local: rotary.local(base),
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
        let q = rotary.turn(b, b.rms_norm(q, &name("attn_q_norm"), self.eps));
        let k = rotary.turn(b, b.rms_norm(k, &name("attn_k_norm"), self.eps));
        let attended = b.attend(il, (q, k, v), Attention { window, ..b.causal(self.scale) });

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        let x = b.rms_norm(attended, &name("post_attention_norm"), self.eps).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        let h = sizes.gated_ffn(b, il, h, UnaryKind::Gelu);
        b.rms_norm(h, &name("post_ffw_norm"), self.eps).add(x).named(name("out"))
    }
}

/// Number of layers of the 27B model.
const N_LAYER_27B: usize = 62;

impl Architecture for Gemma3 {
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
