//! The sizes of a decoder, from the keys that every architecture uses.

use crate::model::{Keys, ModelError};

/// The sizes of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sizes {
    pub n_vocab: usize,
    pub n_ctx_train: usize,
    /// Layers of the model.
    pub n_layer: usize,
    /// Layers of the file after these, for multi-token prediction.
    pub n_layer_nextn: usize,
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
        let (n_block, n_layer_nextn) = layers(keys)?;
        if !keys.is_set("attention.sliding_window") {
            keys.inert("attention.sliding_window_pattern");
            keys.inert("rope.freq_base_swa");
        }
        Ok(Sizes {
            n_vocab: n_vocab(keys)?,
            n_ctx_train: keys.count("context_length", 1..=1 << 30)?,
            n_layer: n_block - n_layer_nextn,
            n_layer_nextn,
            n_embd,
            n_ff: n_ff(keys)?,
            n_head,
            n_head_kv,
            head_dim_k,
            head_dim_v: keys.opt_count("attention.value_length", 1..=1024)?.unwrap_or(head_dim_k),
        })
    }

    /// The usual scale of attention scores, `1 / √head_dim`.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim_k as f32).sqrt()
    }
}

/// The attention window of each layer: `attention.sliding_window` for the layers selected by the file's
/// `attention.sliding_window_pattern` or else by `default`, `None` for the others.
pub(super) fn windows(
    keys: &Keys<'_>,
    n_layer: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = keys.opt_count("attention.sliding_window", 0..=1 << 30)?;
    windows_of(keys, window, n_layer, default)
}

/// As [`windows`], of a window that was read.
pub(super) fn windows_of(
    keys: &Keys<'_>,
    window: Option<usize>,
    n_layer: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = window.filter(|&window| window > 0);
    let pattern = keys.opt_layers("attention.sliding_window_pattern", n_layer)?;
    let pattern = pattern.unwrap_or_else(|| {
        let default: Vec<bool> = (0..n_layer).map(default).collect();
        if window.is_some() {
            let n = default.iter().filter(|&&windowed| windowed).count();
            let (of, key) = (format!("{n} of {n_layer} layers"), "attention.sliding_window_pattern");
            keys.assume(key, of, "as the architecture's models are published");
        }
        default
    });
    Ok(pattern.into_iter().map(|windowed| window.filter(|_| windowed)).collect())
}

/// The size of the vocabulary: the rows of the embeddings.
fn n_vocab(keys: &Keys<'_>) -> Result<usize, ModelError> {
    let missing = || keys.refuse("vocab_size", "unknown", "the file has no token_embd.weight to count");
    let n_vocab = keys.tensor_shape("token_embd.weight").ok_or_else(missing)?.dim(1);
    keys.warn_unless("vocab_size", n_vocab, &format!("token_embd.weight has {n_vocab} rows"));
    match keys.vocabulary()? {
        Some(n) if n > n_vocab => {
            let reason = format!(
                "tokenizer.ggml.tokens lists {n} tokens, of which some have no row in token_embd.weight"
            );
            Err(keys.refuse("vocab_size", n_vocab, reason))
        }
        _ => Ok(n_vocab),
    }
}

/// The inner width of the feed-forward part. A model whose layers are all mixtures of experts may have only that of an
/// expert.
fn n_ff(keys: &Keys<'_>) -> Result<usize, ModelError> {
    let of_expert = "expert_feed_forward_length";
    let key = if keys.has(of_expert) && !keys.has("feed_forward_length") {
        of_expert
    } else {
        "feed_forward_length"
    };
    keys.count(key, 1..=1 << 22)
}

/// The layers of the file and those of them, at its end, that are for multi-token prediction.
fn layers(keys: &Keys<'_>) -> Result<(usize, usize), ModelError> {
    let n_block = keys.count("block_count", 1..=1 << 10)?;
    let n_nextn = keys.opt_count("nextn_predict_layers", 0..=n_block - 1)?.unwrap_or(0);
    let first = n_block - n_nextn;
    // A file from which these layers were removed may still count them, or may not.
    let has = |tensor: &str| keys.tensor_shape(&format!("blk.{first}.{tensor}.weight")).is_some();
    let counted = has("nextn.eh_proj") || !has("attn_output") && !has("ssm_out");
    Ok((n_block, if counted { n_nextn } else { 0 }))
}
