//! `olmo2`: OLMo 2 and 3. Norms after attention and after the feed-forward part instead of before; one norm over all
//! heads of queries, and one of keys. In OLMo 3 three of four layers have a window, and rotary positions without
//! scaling.
//!
//! OLMo Team, "2 OLMo 2 Furious", 2024; "Olmo 3", 2025.

use super::decoder::{Sizes, heads, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Olmo2 {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    eps: f32,
    rotary: Rotary,
    /// Rotary positions of the layers with a window.
    rotary_local: Rotary,
}

impl Olmo2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        let (rotary, base) = Rotary::read_with_local(keys, RopeKind::Neox, sizes.head_dim_k)?;
        let base = base.unwrap_or(rotary.rope.freq_base);
        Ok(Box::new(Olmo2 {
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            windows: windows(keys, sizes.n_layer, |il| (il + 1) % 4 != 0)?,
            rotary_local: rotary.local(base),
            rotary,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let (n_tokens, dim) = (x.dim(1), sizes.head_dim_k);
        let [q, k, v] = sizes.qkv(b, il, x);
        let window = self.windows[il];
        let rotary = if window.is_some() { &self.rotary_local } else { &self.rotary };
        let normed = |x: Tensor<'g>, part: &str, n_head: usize| {
            let x = b.rms_norm(x.reshape([dim * n_head, n_tokens]), &name(part), self.eps);
            rotary.turn(b, heads(x, n_head))
        };
        let q = normed(q, "attn_q_norm", sizes.n_head);
        let k = normed(k, "attn_k_norm", sizes.n_head_kv);
        let attended = b.attend(il, (q, k, v), Attention { window, ..b.causal(sizes.scale()) });

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        let x = b.rms_norm(attended, &name("post_attention_norm"), self.eps).add(x).named(name("ffn_inp"));
        let h = sizes.gated_ffn(b, il, x, UnaryKind::Silu);
        b.rms_norm(h, &name("post_ffw_norm"), self.eps).add(x).named(name("out"))
    }
}

impl Architecture for Olmo2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
