//! `deepseek2`: DeepSeek V2, V3 and R1, and GLM 4.7 Flash. Keys and values of all heads are computed from one short latent vector per
//! token, and only that vector is cached (latent attention); dense layers, then mixtures of experts with shared
//! experts.
//!
//! DeepSeek-AI, "DeepSeek-V2", 2024, and "DeepSeek-V3 Technical Report", 2024. Newer files split the matrix for keys
//! and values into `attn_k_b` and `attn_v_b`: queries are multiplied by the first, attention runs over the latent
//! vectors, and its output is multiplied by the second. Older files have a single matrix `attn_kv_b`, which gives keys
//! and values.

use super::common::{Common, NormKind};
use super::decoder::Decoder;
use super::experts::SharedExperts;
use super::layer::{Layer, heads};
use super::rotary::Rotary;
use super::sizes::Sizes;
use crate::graph::Tensor;
use crate::model::{Experts, Gating, Heads, Keys, ModelError, Values};
use crate::ops::{Attention, ExpertGroups, GroupScore, RopeKind};
use crate::tensor::DType;

#[derive(Debug)]
pub(super) struct DeepSeek2 {
    latent: Latent,
    mixture: SharedExperts,
    scale: f32,
}

/// The widths of latent attention.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latent {
    /// Of the vector that queries are computed from; `None`: they are computed from the hidden state directly.
    q_rank: Option<usize>,
    /// Of the latent vector, which keys and values are computed from.
    kv_rank: usize,
    /// Of a key in the product with a query, including its rotary part.
    head_dim_k: usize,
    /// Of the rotary part of a key.
    n_rot: usize,
    /// Of a value.
    head_dim_v: usize,
    /// True if the file has the matrix of keys and values in two parts.
    split: bool,
}

impl Decoder for DeepSeek2 {
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError> {
        let sizes = Sizes::read(keys)?;
        let (dim, kind) = (sizes.head_dim_k, RopeKind::Norm);
        let rotary = Rotary::read_without_multiplier(keys, kind, dim, dim)?;
        let split = keys.tensor_shape("blk.0.attn_k_b.weight").is_some();
        let latent = Latent {
            q_rank: keys.opt_count("attention.q_lora_rank", 0..=1 << 16)?.filter(|&rank| rank > 0),
            kv_rank: keys.count("attention.kv_lora_rank", 1..=1 << 16)?,
            head_dim_k: keys.opt_count("attention.key_length_mla", 1..=1024)?.unwrap_or(sizes.head_dim_k),
            head_dim_v: keys.opt_count("attention.value_length_mla", 1..=1024)?.unwrap_or(sizes.head_dim_v),
            n_rot: rotary.rope.n_rot,
            split,
        };
        if latent.head_dim_k <= latent.n_rot {
            let reason =
                format!("keys of {} elements must have some that are not rotated", latent.head_dim_k);
            return Err(keys.refuse("rope.dimension_count", latent.n_rot, reason));
        }
        // The file's number is a tenth of `mscale_all_dim`, which equals `mscale` in every published model, so the
        // rotation keeps its magnitude and only the scores grow.
        let mscale = Rotary::log_multiplier(keys)?.filter(|&tenth| tenth > 0.0).map(|tenth| tenth / 0.1);
        let growth = rotary.magnitude(mscale.unwrap_or(0.0));
        let groups = ExpertGroups { n_group: 1, n_group_used: 1, score: GroupScore::Best };
        let v3 = keys.tensor_shape(&format!("blk.{}.exp_probs_b.bias", sizes.n_layer - 1)).is_some();
        let otherwise = Experts {
            normalise: false,
            groups: (!v3).then_some(groups),
            gating: gating(keys, v3),
            ..Experts::new(0, 0, sizes.n_ff)
        };
        let own = DeepSeek2 {
            mixture: SharedExperts::read(keys, &sizes, otherwise)?,
            scale: growth * growth / (latent.head_dim_k as f32).sqrt(),
            latent,
        };
        let rotary = rotary.with_log_multiplier(mscale.map(|_| 1.0));
        Ok((Common::of(keys, NormKind::Rms, sizes, Some(rotary))?, own))
    }

    fn attended<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        match self.latent.split {
            true => self.attend_short(l, h),
            false => self.attend_full(l, h),
        }
    }

    fn attention(&self, l: &Layer<'_, '_>) -> Attention {
        Attention { scale: self.scale, ..l.causal() }
    }

    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        self.mixture.ffn(l, h)
    }
}

/// The weights of experts in a file that does not say them. GLM 4.7 Flash's first files lack the key; a bias of the choice
/// is published with sigmoids only.
fn gating(keys: &Keys<'_>, has_bias: bool) -> Gating {
    match has_bias {
        false => Gating::Softmax,
        true => {
            if !keys.is_set("expert_gating_func") {
                keys.assume(
                    "expert_gating_func",
                    2,
                    "sigmoid, since the file has a bias of the choice, exp_probs_b",
                );
            }
            Gating::Sigmoid
        }
    }
}

impl DeepSeek2 {
    /// Queries, `[head_dim_k, n_head, n_tokens]`: their elements without and with rotary positions.
    fn queries<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> [Tensor<'g>; 2] {
        let (dim, n_rot, n_head) = (self.latent.head_dim_k, self.latent.n_rot, l.common.sizes.n_head);
        let q = match self.latent.q_rank {
            Some(rank) => {
                let short = l.norm(l.linear(h, "attn_q_a", rank), "attn_q_a_norm");
                l.linear(short, "attn_q_b", dim * n_head)
            }
            None => l.linear(h, "attn_q", dim * n_head),
        };
        let q = heads(q, n_head);
        [q.slice(0, 0, dim - n_rot), l.rotate(q.slice(0, dim - n_rot, n_rot))]
    }

    /// The normed latent vector of each token, `[kv_rank, n_tokens]`, and the rotary part of its key, `[n_rot, 1,
    /// n_tokens]`.
    fn short<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> [Tensor<'g>; 2] {
        let Latent { kv_rank: rank, n_rot, .. } = self.latent;
        let both = l.linear(h, "attn_kv_a_mqa", rank + n_rot);
        let short = l.norm(both.slice(0, 0, rank), "attn_kv_a_norm");
        [short, l.rotate(heads(both, 1).slice(0, rank, n_rot))]
    }

    /// Attention over the latent vectors: `[head_dim_v · n_head, n_tokens]`.
    fn attend_short<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let Latent { kv_rank, head_dim_k, n_rot, head_dim_v, .. } = self.latent;
        let (n_head, n_tokens) = (l.common.sizes.n_head, h.dim(1));
        let [q, q_rotated] = self.queries(l, h);
        let [short, k_rotated] = self.short(l, h);
        // Each head has its own matrix: the heads are the third dimension of the products.
        let of_heads = |x: Tensor<'g>, part: &str, n_in: usize, n_out: usize| {
            let weight = l.b.weight(&l.name(&format!("{part}.weight")), [n_in, n_out, n_head]);
            weight.cast(DType::F32).matmul(x.permute([0, 2, 1, 3]).copy()).permute([0, 2, 1, 3])
        };
        let q = of_heads(q, "attn_k_b", head_dim_k - n_rot, kv_rank);
        let q = q.concat(&[q_rotated], 0);
        let k = heads(short, 1).concat(&[k_rotated], 0);
        let of_latent = Heads { q, k, v: Values::InKeys(kv_rank), sinks: None };
        let attended = l.b.attend(l.il, of_latent, self.attention(l));
        let attended = of_heads(heads(attended, n_head), "attn_v_b", kv_rank, head_dim_v);
        attended.copy().reshape([head_dim_v * n_head, n_tokens])
    }

    /// Attention over keys and values computed from the latent vectors.
    fn attend_full<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let Latent { head_dim_k, n_rot, head_dim_v, .. } = self.latent;
        let n_head = l.common.sizes.n_head;
        let [q, q_rotated] = self.queries(l, h);
        let [short, k_rotated] = self.short(l, h);
        let dim = head_dim_k - n_rot + head_dim_v;
        let kv = heads(l.linear(short, "attn_kv_b", dim * n_head), n_head);
        let k = kv.slice(0, 0, head_dim_k - n_rot);
        // All heads share the rotary part.
        let k_rotated = k_rotated.concat(&vec![k_rotated; n_head - 1], 1);
        let v = kv.slice(0, head_dim_k - n_rot, head_dim_v);
        let (q, k) = (q.concat(&[q_rotated], 0), k.concat(&[k_rotated], 0));
        l.b.attend(l.il, (q, k, v), self.attention(l))
    }
}
