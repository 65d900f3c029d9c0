//! Mixtures of experts with shared experts.

use super::layer::Layer;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Experts, Keys, ModelError};
use crate::ops::UnaryKind;

/// Dense layers first, then mixtures of experts combined with shared experts, which every token uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SharedExperts {
    experts: Experts,
    /// Number of shared experts, computed as one part of this many times the width.
    n_shared: usize,
    n_layer_dense: usize,
}

impl SharedExperts {
    /// Reads the counts; settings of the experts that the file does not give are taken from `otherwise`.
    pub fn read(keys: &Keys<'_>, sizes: &Sizes, otherwise: Experts) -> Result<SharedExperts, ModelError> {
        Ok(SharedExperts {
            experts: Experts::read(keys, otherwise)?,
            n_shared: keys.opt_count("expert_shared_count", 0..=1 << 10)?.unwrap_or(0),
            n_layer_dense: keys.opt_count("leading_dense_block_count", 0..=sizes.n_layer)?.unwrap_or(0),
        })
    }

    /// The feed-forward part of a layer.
    #[track_caller]
    pub fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        if l.il < self.n_layer_dense {
            return l.gated_ffn(h, UnaryKind::Silu);
        }
        let mixed = l.moe(h, &self.experts);
        match self.n_shared {
            0 => mixed,
            n => mixed.add(l.gated_part(h, "_shexp", n * self.experts.n_ff, UnaryKind::Silu)),
        }
    }
}

/// A mixture of experts, and one shared expert whose output is multiplied by a gate of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GatedSharedExpert {
    experts: Experts,
    /// Inner width of the shared expert.
    n_ff: usize,
}

impl GatedSharedExpert {
    /// Reads the counts; settings of the experts that the file does not give are taken from `otherwise`, and a missing
    /// width of the shared expert is `n_ff`.
    pub fn read(keys: &Keys<'_>, otherwise: Experts, n_ff: usize) -> Result<GatedSharedExpert, ModelError> {
        let key = "expert_shared_feed_forward_length";
        Ok(GatedSharedExpert {
            experts: Experts::read(keys, otherwise)?,
            n_ff: keys.opt_count(key, 1..=1 << 22)?.unwrap_or(n_ff),
        })
    }

    /// The feed-forward part of a layer.
    #[track_caller]
    pub fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let gate = l.linear(h, "ffn_gate_inp_shexp", 1).sigmoid();
        let shared = l.gated_part(h, "_shexp", self.n_ff, UnaryKind::Silu).mul(gate);
        l.moe(h, &self.experts).add(shared)
    }
}
