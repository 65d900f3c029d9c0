//! `llama`: Llama 1 to 3 and Mistral. RMS norm before attention and before a gated feed-forward part, rotary positions
//! on neighbouring pairs, grouped-query attention.
//!
//! Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; Llama 3's longer context is stored as
//! the tensor `rope_freqs.weight`, Mistral 7B's window as `attention.sliding_window`. Mixtral's feed-forward part is a
//! mixture of experts (Jiang et al., "Mixtral of Experts", 2024).

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::layer::Layer;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::{RopeKind, UnaryKind};

#[derive(Debug)]
pub(super) struct Llama {
    experts: Option<Experts>,
}

impl Decoder for Llama {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let common = Common::read(keys, NormKind::Rms, RopeKind::Norm)?.windowed(keys, |_| true)?;
        // Some files without experts have 0 for both counts.
        let experts = match keys.opt_count("expert_count", 0..=1 << 16)? {
            None | Some(0) => keys.opt_count("expert_used_count", 0..=0)?.and(None),
            Some(_) => Some(Experts::read(keys, Experts::new(0, 0, common.sizes.n_ff))?),
        };
        Ok((common, Llama { experts }))
    }

    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        let [q, k] = qk.map(|x| l.rotate(x));
        [q.named(l.name("q_rope")), k.named(l.name("k_rope"))]
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        match &self.experts {
            Some(experts) => l.moe(h, experts),
            None => l.gated_ffn(h, UnaryKind::Silu),
        }
    }
}
