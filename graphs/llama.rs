//! `llama`: Llama 1 to 3 and Mistral. RMS norm before attention and before a gated feed-forward part, rotary positions
//! on neighbouring pairs, grouped-query attention.
//!
//! Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; Llama 3's longer context is stored as
//! the tensor `rope_freqs.weight`, Mistral 7B's window as `attention.sliding_window`. Mixtral's feed-forward part is a
//! mixture of experts (Jiang et al., "Mixtral of Experts", 2024).

use super::decoder::{Sizes, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Experts, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters of a Llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    experts: Option<Experts>,
    eps: f32,
    rotary: Rotary,
}

impl Llama {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        // Some files without experts have 0 for both counts.
        let experts = match keys.opt_count("expert_count", 0..=1 << 16)? {
            None | Some(0) => keys.opt_count("expert_used_count", 0..=0)?.and(None),
            Some(_) => Some(Experts::read(keys, Experts::new(0, 0, sizes.n_ff))?),
        };
        Ok(Box::new(Llama {
            experts,
            windows: windows(keys, sizes.n_layer, |_| true)?,
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Norm, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let q = self.rotary.turn(b, q).named(name("q_rope"));
        let k = self.rotary.turn(b, k).named(name("k_rope"));
        let attention = Attention { window: self.windows[il], ..b.causal(sizes.scale()) };
        let attended = b.attend(il, (q, k, v), attention);

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        let h = match &self.experts {
            Some(experts) => b.moe(h, &format!("blk.{il}"), experts),
            None => sizes.gated_ffn(b, il, h, UnaryKind::Silu),
        };
        h.add(x).named(name("out"))
    }
}

impl Architecture for Llama {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
