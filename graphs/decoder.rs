//! Common parts of decoders: their sizes, and the parts of a layer that most of them share.

use crate::graph::Tensor;
use crate::model::{Experts, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::UnaryKind;

/// The sizes of a decoder, from the keys that every architecture uses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sizes {
    pub n_vocab: usize,
    pub n_ctx_train: usize,
    pub n_layer: usize,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub head_dim_k: usize,
    pub head_dim_v: usize,
}

impl Sizes {
    /// Reads the sizes, and checks that they are consistent.
    pub fn read(keys: &Keys<'_>) -> Result<Sizes, ModelError> {
        let n_embd = keys.count("embedding_length", 1..=1 << 20)?;
        let n_head = keys.count("attention.head_count", 1..=1 << 12)?;
        let n_head_kv = keys.opt_count("attention.head_count_kv", 1..=n_head)?.unwrap_or(n_head);
        if !n_head.is_multiple_of(n_head_kv) {
            let reason = format!("it must divide the {n_head} heads of attention.head_count");
            return Err(keys.refuse("attention.head_count_kv", n_head_kv, reason));
        }
        let head_dim_k = match keys.opt_count("attention.key_length", 1..=1024)? {
            Some(n) => n,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => {
                let reason = format!("it must divide the embedding_length {n_embd}");
                return Err(keys.refuse("attention.head_count", n_head, reason));
            }
        };
        if keys.opt_bool("attention.causal")? == Some(false) {
            let reason = "rfgraph runs decoders, whose tokens see only those before them";
            return Err(keys.refuse("attention.causal", false, reason));
        }
        Ok(Sizes {
            n_vocab: n_vocab(keys)?,
            n_ctx_train: keys.count("context_length", 1..=1 << 30)?,
            n_layer: keys.count("block_count", 1..=1 << 10)?,
            n_embd,
            n_ff: keys.count("feed_forward_length", 1..=1 << 22)?,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v: keys.opt_count("attention.value_length", 1..=1024)?.unwrap_or(head_dim_k),
        })
    }

    /// The sizes that a session needs.
    pub fn shape(&self) -> ModelShape {
        let Sizes { n_vocab, n_ctx_train, n_embd, n_layer, .. } = *self;
        ModelShape { n_vocab, n_ctx_train, n_positions: None, n_embd, n_layer, n_pos: 1 }
    }

    /// The usual scale of attention scores, `1 / √head_dim`.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim_k as f32).sqrt()
    }

    /// The token embeddings, F32 `[n_embd, n_tokens]`.
    #[track_caller]
    pub fn embeddings<'g>(&self, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        let table = b.weight("token_embd.weight", [self.n_embd, self.n_vocab]);
        table.get_rows(b.batch().tokens).named("embeddings")
    }

    /// The logits of normed states. A file without an output matrix uses the embeddings for it (tied).
    #[track_caller]
    pub fn logits<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        match b.has("output.weight") {
            true => b.linear(x, "output", self.n_vocab),
            false => b.linear(x, "token_embd", self.n_vocab),
        }
        .named("logits")
    }

    /// Applies the layers one after another, from the token embeddings or from the hidden states where this portion of
    /// the model begins.
    #[track_caller]
    pub fn stack<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        embeddings: impl FnOnce() -> Tensor<'g>,
        layer: impl Fn(usize, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        b.layers(self.n_layer).fold(b.embed(self.n_embd, embeddings), |x, il| layer(il, x))
    }

    /// A whole decoder without further use of embeddings and logits: layers, the final norm, logits.
    #[track_caller]
    pub fn decode<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        layer: impl Fn(usize, Tensor<'g>) -> Tensor<'g>,
        norm: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Head<'g> {
        b.head(self.stack(b, || self.embeddings(b), layer), norm, |x| self.logits(b, x))
    }

    /// Queries, keys and values of layer `il`, each as heads `[head_dim, n_head, n_tokens]`: from three matrices, or
    /// from one matrix with the rows of all three if the file has it.
    #[track_caller]
    pub fn qkv<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, h: Tensor<'g>) -> [Tensor<'g>; 3] {
        let name = |part: &str| format!("blk.{il}.{part}");
        let (dim, n_head, n_head_kv) = (self.head_dim_k, self.n_head, self.n_head_kv);
        if b.has(&name("attn_qkv.weight")) && self.head_dim_v == dim {
            let all = n_head + 2 * n_head_kv;
            let heads = heads(b.linear(h, &name("attn_qkv"), dim * all), all);
            return [(0, n_head), (n_head, n_head_kv), (n_head + n_head_kv, n_head_kv)]
                .map(|(first, n)| heads.slice(1, first, n));
        }
        [
            heads(b.linear(h, &name("attn_q"), dim * n_head), n_head),
            heads(b.linear(h, &name("attn_k"), dim * n_head_kv), n_head_kv),
            heads(b.linear(h, &name("attn_v"), self.head_dim_v * n_head_kv), n_head_kv),
        ]
    }

    /// The rows of `x` that the rest of layer `il` must compute: after the last layer's attention, only rows whose
    /// output is wanted.
    #[track_caller]
    pub fn wanted<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        if il + 1 == self.n_layer { b.wanted_rows(x) } else { x }
    }

    /// The projection of attention outputs back to the embedding width.
    #[track_caller]
    pub fn attn_output<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, attended: Tensor<'g>) -> Tensor<'g> {
        b.linear(attended, &format!("blk.{il}.attn_output"), self.n_embd)
    }

    /// The gated feed-forward part of layer `il`: `down(activation(gate(h)) · up(h))`.
    #[track_caller]
    pub fn gated_ffn<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        il: usize,
        h: Tensor<'g>,
        activation: UnaryKind,
    ) -> Tensor<'g> {
        gated_part(b, h, (&format!("blk.{il}"), ""), self.n_ff, activation)
    }

    /// As [`Sizes::gated_ffn`] with SiLU, with the rows of gate and up, in this order, in one matrix `ffn_up`.
    #[track_caller]
    pub fn fused_ffn<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, h: Tensor<'g>) -> Tensor<'g> {
        let name = |part: &str| format!("blk.{il}.{part}");
        let both = b.linear(h, &name("ffn_up"), 2 * self.n_ff);
        let [gate, up] = [0, self.n_ff].map(|first| both.slice(0, first, self.n_ff));
        b.linear(gate.silu().mul(up).named(name("ffn_act")), &name("ffn_down"), self.n_embd)
    }

    /// A feed-forward part without a gate: `down(activation(up(h)))`.
    #[track_caller]
    pub fn ffn<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        il: usize,
        h: Tensor<'g>,
        activation: UnaryKind,
    ) -> Tensor<'g> {
        let name = |part: &str| format!("blk.{il}.{part}");
        let h = b.linear(h, &name("ffn_up"), self.n_ff).unary(activation).named(name("ffn_act"));
        b.linear(h, &name("ffn_down"), self.n_embd)
    }
}

/// The gated feed-forward part with the matrices `PREFIX.ffn_gateSUFFIX` and so on, of inner width `n_ff`.
#[track_caller]
pub(super) fn gated_part<'g>(
    b: &ModelBuilder<'g, '_>,
    h: Tensor<'g>,
    (prefix, suffix): (&str, &str),
    n_ff: usize,
    activation: UnaryKind,
) -> Tensor<'g> {
    let name = |part: &str| format!("{prefix}.{part}{suffix}");
    let (gate, up) = (b.linear(h, &name("ffn_gate"), n_ff), b.linear(h, &name("ffn_up"), n_ff));
    b.linear(gate.unary(activation).mul(up).named(name("ffn_act")), &name("ffn_down"), h.dim(0))
}

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

    /// The feed-forward part of layer `il`.
    #[track_caller]
    pub fn ffn<'g>(&self, b: &ModelBuilder<'g, '_>, sizes: &Sizes, il: usize, h: Tensor<'g>) -> Tensor<'g> {
        let prefix = format!("blk.{il}");
        if il < self.n_layer_dense {
            return sizes.gated_ffn(b, il, h, UnaryKind::Silu);
        }
        let mixed = b.moe(h, &prefix, &self.experts);
        match self.n_shared {
            0 => mixed,
            n => mixed.add(gated_part(b, h, (&prefix, "_shexp"), n * self.experts.n_ff, UnaryKind::Silu)),
        }
    }
}

/// `[head_dim · n_head, n_tokens]` as heads `[head_dim, n_head, n_tokens]`.
#[track_caller]
pub(super) fn heads(x: Tensor<'_>, n_head: usize) -> Tensor<'_> {
    x.reshape([x.dim(0) / n_head.max(1), n_head, x.dim(1)])
}

/// Layer norm of each head, `[head_dim, n_head, n_tokens]`, with a scale per element of every head and no bias.
#[track_caller]
pub(super) fn head_norm<'g>(b: &ModelBuilder<'g, '_>, x: Tensor<'g>, name: &str, eps: f32) -> Tensor<'g> {
    let weight = b.weight(&format!("{name}.weight"), [x.dim(0), x.dim(1)]);
    x.sub(x.mean_rows()).rms_norm_plain(eps).mul(weight).named(name)
}

/// `x` normed by `norm` if the file has `name.weight`, otherwise `x` unchanged.
#[track_caller]
pub(super) fn normed_if<'g>(
    b: &ModelBuilder<'g, '_>,
    x: Tensor<'g>,
    name: &str,
    norm: impl FnOnce(Tensor<'g>, &str) -> Tensor<'g>,
) -> Tensor<'g> {
    if b.has(&format!("{name}.weight")) { norm(x, name) } else { x }
}

/// The attention window of each layer: `attention.sliding_window` for the layers selected by the file's
/// `attention.sliding_window_pattern` or else by `default`, `None` for the others.
pub(super) fn windows(
    keys: &Keys<'_>,
    n_layer: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = keys.opt_count("attention.sliding_window", 0..=1 << 30)?.filter(|&window| window > 0);
    let pattern = keys.opt_layers("attention.sliding_window_pattern", n_layer)?;
    let pattern = pattern.unwrap_or_else(|| (0..n_layer).map(default).collect());
    Ok(pattern.into_iter().map(|windowed| window.filter(|_| windowed)).collect())
}

/// The size of the vocabulary: the rows of the embeddings, checked against the other sources.
fn n_vocab(keys: &Keys<'_>) -> Result<usize, ModelError> {
    let missing = || keys.refuse("vocab_size", "unknown", "the file has no token_embd.weight to count");
    let n_vocab = keys.tensor_shape("token_embd.weight").ok_or_else(missing)?.dim(1);
    if let Some(n) = keys.opt_count("vocab_size", 1..=1 << 30)?.filter(|&n| n != n_vocab) {
        return Err(keys.refuse("vocab_size", n, format!("token_embd.weight has {n_vocab} rows")));
    }
    match keys.vocabulary()? {
        Some(n) if n > n_vocab => {
            let reason = format!("tokenizer.ggml.tokens lists {n} tokens");
            Err(keys.refuse("vocab_size", n_vocab, reason))
        }
        _ => Ok(n_vocab),
    }
}
