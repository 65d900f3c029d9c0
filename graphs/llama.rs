//! `llama`: Llama 1 to 3 and Mistral. RMS norm before attention and before a gated feed-forward part,
//! rotary positions on neighbouring pairs, grouped key and value heads.
//!
//! Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; Llama 3's longer context
//! comes as the tensor `rope_freqs.weight`.

use crate::graph::Tensor;
use crate::model::{Architecture, CacheShape, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Rope, RopeKind};

/// The hyper-parameters of a Llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    n_vocab: usize,
    n_ctx_train: usize,
    n_layer: usize,
    n_embd: usize,
    n_ff: usize,
    n_head: usize,
    n_head_kv: usize,
    head_dim_k: usize,
    head_dim_v: usize,
    eps: f32,
    rope: Rope,
}

impl Llama {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
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
        let head_dim_v = keys.opt_count("attention.value_length", 1..=1024)?.unwrap_or(head_dim_k);
        let n_rot = keys.opt_count("rope.dimension_count", 2..=head_dim_k)?.unwrap_or(head_dim_k);
        if n_rot % 2 != 0 {
            return Err(keys.refuse("rope.dimension_count", n_rot, "dimensions rotate in pairs"));
        }
        if let Some(n) = keys.opt_count("expert_count", 0..=1 << 16)?.filter(|&n| n > 0) {
            return Err(keys.refuse("expert_count", n, "mixtures of experts do not run yet"));
        }
        Ok(Box::new(Llama {
            n_vocab: n_vocab(keys)?,
            n_ctx_train: keys.count("context_length", 1..=1 << 30)?,
            n_layer: keys.count("block_count", 1..=1 << 10)?,
            n_embd,
            n_ff: keys.count("feed_forward_length", 1..=1 << 22)?,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v,
            eps: keys.positive("attention.layer_norm_rms_epsilon")?,
            rope: rope(keys, n_rot)?,
        }))
    }

    /// One layer: `x` `[n_embd, n_tokens]` in, the same out.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let name = |part: &str| format!("blk.{il}.{part}");
        let n_tokens = b.batch().n_tokens;
        let heads = |x: Tensor<'g>, head_dim, n_head| x.reshape([head_dim, n_head, n_tokens]);
        let rope = |x| b.rope(x, "rope_freqs.weight", &self.rope);

        let h = b.rms_norm(x, &name("attn_norm"), self.eps);
        let q = b.linear(h, &name("attn_q"), self.head_dim_k * self.n_head);
        let k = b.linear(h, &name("attn_k"), self.head_dim_k * self.n_head_kv);
        let v = b.linear(h, &name("attn_v"), self.head_dim_v * self.n_head_kv);
        let q = rope(heads(q, self.head_dim_k, self.n_head)).named(name("q_rope"));
        let k = rope(heads(k, self.head_dim_k, self.n_head_kv)).named(name("k_rope"));
        let v = heads(v, self.head_dim_v, self.n_head_kv);
        let scale = 1.0 / (self.head_dim_k as f32).sqrt();
        let attended = b.attend(il, (q, k, v), b.causal(scale));

        // Past the last attention, tokens whose logits nobody wants need no more work.
        let last = il + 1 == self.n_layer;
        let wanted = |x| if last { b.wanted_rows(x) } else { x };
        let x = b
            .linear(wanted(attended), &name("attn_output"), self.n_embd)
            .add(wanted(x))
            .named(name("ffn_inp"));

        let h = b.rms_norm(x, &name("ffn_norm"), self.eps);
        let gate = b.linear(h, &name("ffn_gate"), self.n_ff);
        let up = b.linear(h, &name("ffn_up"), self.n_ff);
        let h = gate.silu().mul(up).named(name("ffn_act"));
        b.linear(h, &name("ffn_down"), self.n_embd).add(x).named(name("out"))
    }
}

impl Architecture for Llama {
    fn shape(&self) -> ModelShape {
        let layer = CacheShape {
            n_head_kv: self.n_head_kv,
            head_dim_k: self.head_dim_k,
            head_dim_v: self.head_dim_v,
        };
        ModelShape {
            n_vocab: self.n_vocab,
            n_ctx_train: self.n_ctx_train,
            n_embd: self.n_embd,
            layers: vec![layer; self.n_layer],
        }
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        let embeddings = || b.weight("token_embd.weight", [self.n_embd, self.n_vocab]);
        let mut x = b.embed(self.n_embd, || embeddings().get_rows(b.batch().tokens).named("embeddings"));
        for il in b.layers(self.n_layer) {
            x = self.layer(b, il, x);
        }
        let norm = |x| b.rms_norm(x, "output_norm", self.eps);
        b.head(x, norm, |x| {
            // Without an output matrix the embeddings serve for both (tied).
            let output = b.opt_weight("output.weight", [self.n_embd, self.n_vocab]);
            x.linear(output.unwrap_or_else(embeddings)).named("logits")
        })
    }
}

/// The size of the vocabulary: the rows of the embeddings, which the other sources must not contradict.
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

fn rope(keys: &Keys<'_>, n_rot: usize) -> Result<Rope, ModelError> {
    let base = keys.opt_positive("rope.freq_base")?.unwrap_or(10_000.0);
    let factor = keys.opt_positive("rope.scaling.factor")?;
    let linear = factor.or(keys.opt_positive("rope.scale_linear")?).unwrap_or(1.0);
    let rope = Rope::new(RopeKind::Norm, n_rot, base);
    match keys.opt_str("rope.scaling.type")?.unwrap_or("linear") {
        "none" => Ok(rope),
        "linear" => Ok(Rope { freq_scale: 1.0 / linear, ..rope }),
        "yarn" => {
            let orig_ctx = keys.count("rope.scaling.original_context_length", 1..=1 << 30)?;
            let attn_factor = keys.opt_positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
            Ok(Rope { freq_scale: 1.0 / linear, ext_factor: 1.0, attn_factor, orig_ctx, ..rope })
        }
        other => Err(keys.refuse("rope.scaling.type", other, "none, linear and yarn are known here")),
    }
}
