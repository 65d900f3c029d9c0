//! Layers with a linear attention that forgets and corrects itself, among layers of gated attention (gated delta net).
//!
//! Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", 2024.

use super::layer::{Layer, heads, with_norms};
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{DeltaInputs, DeltaRule, KeyHeads};
use crate::tensor::DType;

/// The layers of both kinds, and the sizes of those with recurrent state.
#[derive(Debug)]
pub(super) struct DeltaNet {
    /// The layers with recurrent state.
    recurrent: Vec<bool>,
    /// Taps of the convolution.
    n_taps: usize,
    /// Elements of a head of queries, keys and values.
    dim: usize,
    /// Heads of queries and keys.
    n_key: usize,
    /// Heads of values.
    n_head: usize,
    /// The key head of each value head.
    key_heads: KeyHeads,
}

/// Prevents division by zero in the norm of queries and keys; no key holds it.
const L2_EPS: f32 = 1e-6;

impl DeltaNet {
    /// Reads the sizes; the order of heads is the architecture's, since the tensors of both orders have the same names.
    pub fn read(keys: &Keys<'_>, sizes: &Sizes, key_heads: KeyHeads) -> Result<DeltaNet, ModelError> {
        let n_key = keys.count("ssm.group_count", 1..=1 << 10)?;
        let n_head = keys.count("ssm.time_step_rank", 1..=1 << 10)?;
        if !n_head.is_multiple_of(n_key) {
            let reason = format!("it must divide the {n_head} heads of ssm.time_step_rank");
            return Err(keys.refuse("ssm.group_count", n_key, reason));
        }
        let dim = keys.count("ssm.state_size", 1..=256)?;
        let inner = keys.count("ssm.inner_size", 1..=1 << 20)?;
        if inner != n_head * dim {
            let reason = format!("it must be {n_head} heads of ssm.time_step_rank with {dim} elements each");
            return Err(keys.refuse("ssm.inner_size", inner, reason));
        }
        Ok(DeltaNet {
            recurrent: recurrent(keys, sizes.n_layer)?,
            n_taps: keys.count("ssm.conv_kernel", 2..=16)?,
            dim,
            n_key,
            n_head,
            key_heads,
        })
    }

    /// The layer's attention, of either kind, with its projection back to the embedding width; then `x`, for the rows that
    /// the rest of the layer computes.
    #[track_caller]
    pub fn mixed<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let h = l.norm(x, "attn_norm");
        let (mixed, output) = match self.recurrent[l.il] {
            true => (self.delta(l, h), "ssm_out"),
            false => (gated_attention(l, h), "attn_output"),
        };
        let [mixed, x] = l.wanted([mixed, x]);
        l.linear(mixed, output, l.common.sizes.n_embd).add(x).named(l.name("ffn_inp"))
    }

    /// The delta rule's outputs, `[dim · n_head, n_tokens]`.
    fn delta<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let &DeltaNet { dim, n_key, n_head, n_taps, key_heads, .. } = self;
        let (all, runs) = (2 * n_key + n_head, l.b.runs());
        let width = dim * all;
        let conv = l.b.recurrent_state(&l.name("conv"), DType::F32, &[width, n_taps - 1]);
        let weight = l.b.weight(&l.name("ssm_conv1d.weight"), [n_taps, width]);
        let qkv = l.linear(h, "attn_qkv", width).short_conv(weight, None, (conv, runs), true);
        let qkv = heads(qkv.named(l.name("qkv")), all);
        let [q, k, v] =
            [(0, n_key), (n_key, n_key), (2 * n_key, n_head)].map(|(first, n)| qkv.slice(1, first, n));
        let [g, beta] = self.gates(l, h);
        let gates = [l.b.weight(&l.name("ssm_dt.bias"), [n_head]), l.b.weight(&l.name("ssm_a"), [n_head])];
        let state = l.b.recurrent_state(&l.name("delta"), DType::F32, &[dim, dim, n_head]);
        let inputs = DeltaInputs { k, v, g, beta, state, runs, gates: Some(gates) };
        let rule = DeltaRule { key_heads, l2_eps: Some(L2_EPS), scale: 1.0 / (dim as f32).sqrt() };
        let y = q.delta_rule(inputs, rule).named(l.name("delta_out"));
        let z = heads(l.linear(h, "attn_gate", dim * n_head), n_head);
        z.silu().mul(l.norm(y, "ssm_norm")).reshape([dim * n_head, h.dim(1)]).named(l.name("delta_normed"))
    }

    /// The decay and the factor of the correction before their gates, each `[1, n_head, n_tokens]`.
    fn gates<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> [Tensor<'g>; 2] {
        let (n_head, n_tokens) = (self.n_head, h.dim(1));
        let shape = [1, n_head, n_tokens];
        if !l.has("ssm_ba") {
            return ["ssm_alpha", "ssm_beta"].map(|part| l.linear(h, part, n_head).reshape(shape));
        }
        // For each key head the numbers of its value heads: first all factors, then all decays.
        let each = n_head / self.n_key;
        let both = l.linear(h, "ssm_ba", 2 * n_head).reshape([2 * each, self.n_key, n_tokens]);
        [each, 0].map(|first| both.slice(0, first, each).copy().reshape(shape))
    }
}

/// Attention whose output is multiplied by a gate; queries and gates alternate by head in one matrix.
fn gated_attention<'g>(l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
    let sizes = &l.common.sizes;
    let (dim, n_head, n_head_kv) = (sizes.head_dim_k, sizes.n_head, sizes.n_head_kv);
    let both = heads(l.linear(h, "attn_q", 2 * dim * n_head), n_head);
    let [q, gate] = [0, dim].map(|first| both.slice(0, first, dim));
    let k = heads(l.linear(h, "attn_k", dim * n_head_kv), n_head_kv);
    let v = heads(l.linear(h, "attn_v", sizes.head_dim_v * n_head_kv), n_head_kv);
    let [q, k] = with_norms([q, k], |x, norm| l.rotate(l.norm(x, norm)));
    let attended = heads(l.b.attend(l.il, (q, k, v), l.causal()), n_head);
    gate.sigmoid().mul(attended).reshape([dim * n_head, h.dim(1)])
}

/// The layers with recurrent state: a list in newer files, in older ones all but every fourth layer.
fn recurrent(keys: &Keys<'_>, n_layer: usize) -> Result<Vec<bool>, ModelError> {
    let (list, interval) = ("attention.recurrent_layers", "full_attention_interval");
    if let Some(listed) = keys.opt_layers(list, n_layer)? {
        keys.inert(interval);
        return Ok(listed);
    }
    let interval = match keys.opt_count(interval, 1..=1 << 10)? {
        Some(n) => n,
        None => {
            keys.assume(interval, 4, "the interval of the published models");
            4
        }
    };
    Ok((1..=n_layer).map(|i| !i.is_multiple_of(interval)).collect())
}
