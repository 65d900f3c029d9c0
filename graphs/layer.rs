//! A layer under construction: the parts that most layers consist of, by the names of their tensors in the layer.

use super::common::Common;
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Experts, ModelBuilder};
use crate::ops::{Attention, UnaryKind};

/// Layer `il` of a decoder in the graph of one batch. A tensor `part` of the layer has the name `blk.IL.PART`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a, 'g> {
    pub common: &'a Common,
    pub b: &'a ModelBuilder<'g, 'a>,
    pub il: usize,
}

impl<'g> Layer<'_, 'g> {
    /// The full name of a tensor of the layer.
    pub fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.il)
    }

    /// The file has the weight of this part in this layer.
    pub fn has(&self, part: &str) -> bool {
        self.b.has(&self.name(&format!("{part}.weight")))
    }

    /// The product with the matrix `part`, plus its bias if the file has one.
    #[track_caller]
    pub fn linear(&self, x: Tensor<'g>, part: &str, n_out: usize) -> Tensor<'g> {
        self.b.linear(x, &self.name(part), n_out)
    }

    /// The decoder's norm with the weight `part`.
    #[track_caller]
    pub fn norm(&self, x: Tensor<'g>, part: &str) -> Tensor<'g> {
        self.common.norm.of(self.b, x, &self.name(part))
    }

    /// The decoder's norm with the weight `part`, over all heads of `x`, `[head_dim, n_head, n_tokens]`, together.
    #[track_caller]
    pub fn norm_over_heads(&self, x: Tensor<'g>, part: &str) -> Tensor<'g> {
        let (dim, n_head, n_tokens) = (x.dim(0), x.dim(1), x.dim(2));
        heads(self.norm(x.reshape([dim * n_head, n_tokens]), part), n_head)
    }

    /// Layer norm of each head, `[head_dim, n_head, n_tokens]`, with a scale per element of every head and no bias.
    #[track_caller]
    pub fn head_norm(&self, x: Tensor<'g>, part: &str) -> Tensor<'g> {
        let weight = self.b.weight(&self.name(&format!("{part}.weight")), [x.dim(0), x.dim(1)]);
        x.sub(x.mean_rows()).rms_norm_plain(self.common.norm.eps).mul(weight).named(self.name(part))
    }

    /// Queries, keys and values, each as heads `[head_dim, n_head, n_tokens]`: from three matrices, or from one matrix
    /// with the rows of all three if the file has it.
    #[track_caller]
    pub fn qkv(&self, h: Tensor<'g>) -> [Tensor<'g>; 3] {
        let sizes = &self.common.sizes;
        let (dim, n_head, n_head_kv) = (sizes.head_dim_k, sizes.n_head, sizes.n_head_kv);
        if self.has("attn_qkv") && sizes.head_dim_v == dim {
            let all = n_head + 2 * n_head_kv;
            let heads = heads(self.linear(h, "attn_qkv", dim * all), all);
            return [(0, n_head), (n_head, n_head_kv), (n_head + n_head_kv, n_head_kv)]
                .map(|(first, n)| heads.slice(1, first, n));
        }
        [
            heads(self.linear(h, "attn_q", dim * n_head), n_head),
            heads(self.linear(h, "attn_k", dim * n_head_kv), n_head_kv),
            heads(self.linear(h, "attn_v", sizes.head_dim_v * n_head_kv), n_head_kv),
        ]
    }

    /// Heads `[head_dim, n_head, n_tokens]` with the decoder's rotary positions.
    #[track_caller]
    pub fn rotate(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.common.rotary.as_ref().map_or(x, |rotary| rotary.rotate(self.b, x))
    }

    /// As [`Layer::rotate`], with other positions in layers with a window.
    #[track_caller]
    pub fn rotate_locally(&self, local: &Rotary, x: Tensor<'g>) -> Tensor<'g> {
        if self.window().is_some() { local.rotate(self.b, x) } else { self.rotate(x) }
    }

    /// The attention window of the layer.
    pub fn window(&self) -> Option<usize> {
        self.common.windows[self.il]
    }

    /// Causal attention with the usual scale of scores, `1 / √head_dim`, and the layer's window.
    pub fn causal(&self) -> Attention {
        Attention { window: self.window(), ..self.b.causal(self.common.sizes.scale()) }
    }

    /// The rows that the rest of the layer must compute: after the last layer's attention, only rows whose output is
    /// wanted.
    #[track_caller]
    pub fn wanted<const N: usize>(&self, xs: [Tensor<'g>; N]) -> [Tensor<'g>; N] {
        if self.il + 1 == self.common.sizes.n_layer { xs.map(|x| self.b.wanted_rows(x)) } else { xs }
    }

    /// The projection of attention outputs back to the embedding width.
    #[track_caller]
    pub fn attn_output(&self, attended: Tensor<'g>) -> Tensor<'g> {
        self.linear(attended, "attn_output", self.common.sizes.n_embd)
    }

    /// The gated feed-forward part: `down(activation(gate(h)) · up(h))`.
    #[track_caller]
    pub fn gated_ffn(&self, h: Tensor<'g>, activation: UnaryKind) -> Tensor<'g> {
        self.gated_part(h, "", self.common.sizes.n_ff, activation)
    }

    /// The gated feed-forward part with the matrices `ffn_gateSUFFIX` and so on, of inner width `n_ff`.
    #[track_caller]
    pub fn gated_part(&self, h: Tensor<'g>, suffix: &str, n_ff: usize, activation: UnaryKind) -> Tensor<'g> {
        let [gate, up, act, down] = ["gate", "up", "act", "down"].map(|part| format!("ffn_{part}{suffix}"));
        let (gate, up) = (self.linear(h, &gate, n_ff), self.linear(h, &up, n_ff));
        self.linear(gate.unary(activation).mul(up).named(self.name(&act)), &down, h.dim(0))
    }

    /// As [`Layer::gated_ffn`] with SiLU, with the rows of gate and up, in this order, in one matrix `ffn_up`.
    #[track_caller]
    pub fn fused_ffn(&self, h: Tensor<'g>) -> Tensor<'g> {
        let n_ff = self.common.sizes.n_ff;
        let both = self.linear(h, "ffn_up", 2 * n_ff);
        let [gate, up] = [0, n_ff].map(|first| both.slice(0, first, n_ff));
        self.linear(gate.silu().mul(up).named(self.name("ffn_act")), "ffn_down", self.common.sizes.n_embd)
    }

    /// The feed-forward part without a gate: `down(activation(up(h)))`.
    #[track_caller]
    pub fn plain_ffn(&self, h: Tensor<'g>, activation: UnaryKind) -> Tensor<'g> {
        let h = self.linear(h, "ffn_up", self.common.sizes.n_ff).unary(activation);
        self.linear(h.named(self.name("ffn_act")), "ffn_down", self.common.sizes.n_embd)
    }

    /// The layer's mixture of experts.
    #[track_caller]
    pub fn moe(&self, h: Tensor<'g>, experts: &Experts) -> Tensor<'g> {
        self.b.moe(h, &format!("blk.{}", self.il), experts)
    }
}

/// Queries and keys, each mapped by `map`, which gets the name of their norm as well.
#[track_caller]
pub(super) fn with_norms<'g>(
    [q, k]: [Tensor<'g>; 2],
    map: impl Fn(Tensor<'g>, &str) -> Tensor<'g>,
) -> [Tensor<'g>; 2] {
    [map(q, "attn_q_norm"), map(k, "attn_k_norm")]
}

/// `[head_dim · n_head, n_tokens]` as heads `[head_dim, n_head, n_tokens]`.
#[track_caller]
pub(super) fn heads(x: Tensor<'_>, n_head: usize) -> Tensor<'_> {
    x.reshape([x.dim(0) / n_head.max(1), n_head, x.dim(1)])
}
