//! What an architecture builds its graph with: the batch, the weights by name, and the KV cache.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::{CacheLayout, CacheTypes};
use crate::gguf::Gguf;
use crate::graph::{Graph, Tensor};
use crate::ops::{Attention, Paging, Rope};
use crate::tensor::{DType, Shape};
use crate::text::Needs;

/// The inputs of one batch. Entries past the live tokens have slot and sequence -1.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'g> {
    /// Token ids, I32 `[n_tokens]`.
    pub tokens: Tensor<'g>,
    /// Position of each token in its sequence, I32 `[n_tokens]`.
    pub positions: Tensor<'g>,
    /// Slot of the KV cache that each token is written to, I32 `[n_tokens]`.
    pub slots: Tensor<'g>,
    /// Sequence of each token, I32 `[n_tokens]`.
    pub sequences: Tensor<'g>,
    /// Block tables, I32 `[blocks_per_sequence, n_sequences]`.
    pub block_table: Tensor<'g>,
    /// The tokens whose logits or states are wanted, I32 `[n_outputs]`; `None`: all of them.
    pub wanted: Option<Tensor<'g>>,
    /// Tokens in the batch.
    pub n_tokens: usize,
}

/// Which part of a model a graph computes: what runs on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Its layers.
    pub layers: Range<usize>,
    /// Whether it starts from tokens, and not from what the portion before gives.
    pub embeds: bool,
    /// Whether it ends as the model does, and not with what the portion after takes.
    pub head: bool,
}

impl Portion {
    /// A whole model of so many layers.
    pub fn whole(n_layer: usize) -> Portion {
        Portion { layers: 0..n_layer, embeds: true, head: true }
    }

    /// A model cut before layer `at`.
    pub fn split(n_layer: usize, at: usize) -> [Portion; 2] {
        [
            Portion { layers: 0..at, embeds: true, head: false },
            Portion { layers: at..n_layer, embeds: false, head: true },
        ]
    }

    /// Whether it is all of the model.
    pub fn is_whole(&self) -> bool {
        self.embeds && self.head
    }
}

/// The input of a portion that does not start from tokens, and the output of one before it.
pub(super) const HIDDEN: &str = "hidden";

/// What a model's last portion gives of the wanted tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// Their logits, or what a sampler needs of them.
    Next(Needs),
    /// Their hidden states after the final norm, F32 `[n_embd, n_outputs]`.
    States,
}

impl Want {
    /// All logits.
    pub const LOGITS: Want = Want::Next(Needs::Logits);
}

/// What a graph of a batch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub n_tokens: usize,
    /// Tokens whose logits or states are wanted.
    pub n_outputs: usize,
    pub cache: CacheLayout,
    pub cache_types: CacheTypes,
    pub portion: Portion,
}

/// The heads of one layer's attention. Queries, keys and values alone are a tuple:
/// `b.attend(il, (q, k, v), attention)`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'g> {
    /// Queries, F32 `[head_dim, n_head, n_tokens]`.
    pub q: Tensor<'g>,
    /// Keys, F32 `[head_dim, n_head_kv, n_tokens]`.
    pub k: Tensor<'g>,
    /// Where the values are.
    pub v: Values<'g>,
    /// A score for each head that takes part in the softmax without a value, F32 `[n_head]`.
    pub sinks: Option<Tensor<'g>>,
}

/// The values of one layer's attention.
#[derive(Clone, Copy, Debug)]
pub enum Values<'g> {
    /// Values of their own, F32 `[head_dim_v, n_head_kv, n_tokens]`.
    Own(Tensor<'g>),
    /// The first so many elements of each key, as DeepSeek's latent attention has them: they are kept once, in the
    /// type of keys. [`CacheShape::head_dim_v`](super::CacheShape::head_dim_v) is 0 then.
    InKeys(usize),
}

impl<'g> From<(Tensor<'g>, Tensor<'g>, Tensor<'g>)> for Heads<'g> {
    fn from((q, k, v): (Tensor<'g>, Tensor<'g>, Tensor<'g>)) -> Heads<'g> {
        Heads { q, k, v: Values::Own(v), sinks: None }
    }
}

/// Why heads of so many elements are not kept in blocks.
fn cut_block(dtype: DType, head_dim: usize) -> String {
    let block = dtype.block_elements();
    format!(
        "its heads have {head_dim} elements, and {dtype} keeps whole blocks of {block}; \
         choose a cache type of f16, bf16 or f32 (--cache-type-k, --cache-type-v)"
    )
}

/// Builds the graph of one batch.
#[derive(Debug)]
pub struct ModelBuilder<'g, 'm> {
    graph: &'g Graph,
    gguf: &'m Gguf,
    batch: Batch<'g>,
    cache: CacheLayout,
    cache_types: CacheTypes,
    portion: Portion,
    want: Want,
    /// The weights so far: one that is used twice (tied embeddings) is one node.
    used: RefCell<BTreeMap<String, Tensor<'g>>>,
    /// How names of tensors begin that have no part in the next token.
    left_out: RefCell<Vec<String>>,
}

impl<'g, 'm> ModelBuilder<'g, 'm> {
    pub(super) fn new(
        graph: &'g Graph,
        gguf: &'m Gguf,
        request: &Request,
        want: Want,
    ) -> ModelBuilder<'g, 'm> {
        let Request { n_tokens, n_outputs, cache, cache_types, ref portion } = *request;
        let ids = |name: &str| graph.input(name, DType::I32, [n_tokens]);
        let batch = Batch {
            tokens: ids("tokens"),
            positions: ids("positions"),
            slots: ids("slots"),
            sequences: ids("sequences"),
            block_table: graph.input(
                "block_table",
                DType::I32,
                [cache.blocks_per_sequence, cache.n_sequences],
            ),
            wanted: (n_outputs != n_tokens).then(|| graph.input("wanted", DType::I32, [n_outputs])),
            n_tokens,
        };
        let (portion, used, left_out) = (portion.clone(), RefCell::default(), RefCell::default());
        ModelBuilder { graph, gguf, batch, cache, cache_types, portion, want, used, left_out }
    }

    /// The graph under construction.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The batch's inputs.
    pub fn batch(&self) -> &Batch<'g> {
        &self.batch
    }

    /// The layers of a model of so many that this graph computes.
    pub fn layers(&self, n_layer: usize) -> Range<usize> {
        self.portion.layers.start.min(n_layer)..self.portion.layers.end.min(n_layer)
    }

    /// What the first layer here takes, F32 `[n_embd, n_tokens]`: what `embed` makes of the tokens, or what the portion
    /// of the model before this one gives.
    #[track_caller]
    pub fn embed(&self, n_embd: usize, embed: impl FnOnce() -> Tensor<'g>) -> Tensor<'g> {
        match self.portion.embeds {
            true => embed(),
            false => self.graph.input(HIDDEN, DType::F32, [n_embd, self.batch.n_tokens]),
        }
    }

    /// The end of a model: `norm` makes the final hidden states of the last layer's output, and `output` makes logits of
    /// these. Where states are wanted (embeddings of a text) and not logits, it ends after `norm`; if this is not the
    /// model's last portion, with the layer's output itself.
    pub fn head(
        &self,
        x: Tensor<'g>,
        norm: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
        output: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        match (self.portion.head, self.want) {
            (false, _) => x,
            (true, Want::States) => norm(x),
            (true, Want::Next(_)) => output(norm(x)),
        }
    }

    /// A weight of the file, which must have this shape. Its type is the file's.
    #[track_caller]
    pub fn weight(&self, name: &str, shape: impl Into<Shape>) -> Tensor<'g> {
        let shape = shape.into();
        self.opt_weight(name, shape).unwrap_or_else(|| {
            let reason = format!("the file has no such tensor; its hyper-parameters ask for one of {shape}");
            self.graph.refuse("weight", name, reason)
        })
    }

    /// A weight that the file may not have.
    #[track_caller]
    pub fn opt_weight(&self, name: &str, shape: impl Into<Shape>) -> Option<Tensor<'g>> {
        let (info, shape) = (self.gguf.tensor(name)?, shape.into());
        if info.shape.ne() != shape.ne() {
            let reason = format!("the file's is {}, its hyper-parameters ask for {shape}", info.shape);
            return Some(self.graph.refuse("weight", name, reason));
        }
        let weight = || self.graph.weight(name, info.dtype, info.shape);
        Some(*self.used.borrow_mut().entry(name.to_string()).or_insert_with(weight))
    }

    /// Whether the file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Tokens that one sequence may hold.
    pub fn n_ctx(&self) -> usize {
        self.cache.n_ctx
    }

    /// `x · Wᵀ`, times the scale and plus the bias if the file has them: `name.weight`, `name.scale` (one number, as
    /// NVFP4 files have it) and `name.bias`.
    #[track_caller]
    pub fn linear(&self, x: Tensor<'g>, name: &str, n_out: usize) -> Tensor<'g> {
        let y = x.linear(self.weight(&format!("{name}.weight"), [x.dim(0), n_out]));
        let y = match self.opt_weight(&format!("{name}.scale"), [1]) {
            Some(scale) => y.mul(scale),
            None => y,
        };
        let y = match self.opt_weight(&format!("{name}.bias"), [n_out]) {
            Some(bias) => y.add(bias),
            None => y,
        };
        y.named(name)
    }

    /// RMS norm with the scale `name.weight`.
    #[track_caller]
    pub fn rms_norm(&self, x: Tensor<'g>, name: &str, eps: f32) -> Tensor<'g> {
        x.rms_norm(self.weight(&format!("{name}.weight"), [x.dim(0)]), eps).named(name)
    }

    /// Layer norm with the scale `name.weight` and, if the file has it, the bias `name.bias`.
    #[track_caller]
    pub fn layer_norm(&self, x: Tensor<'g>, name: &str, eps: f32) -> Tensor<'g> {
        let weight = self.weight(&format!("{name}.weight"), [x.dim(0)]);
        let bias = self.opt_weight(&format!("{name}.bias"), [x.dim(0)]);
        x.layer_norm(weight, bias, eps).named(name)
    }

    /// Writes keys and values into layer `layer` of the cache and lets the queries attend to all of their sequence
    /// up to themselves. Gives `[head_dim_v · n_head, n_tokens]`. Heads, widths and window may differ from layer to
    /// layer.
    #[track_caller]
    pub fn attend(&self, layer: usize, heads: impl Into<Heads<'g>>, attention: Attention) -> Tensor<'g> {
        let Heads { q, k, v, sinks } = heads.into();
        let CacheTypes { k: k_type, v: v_type } = self.cache_types;
        let k = self.write_cache(format!("cache_k.{layer}"), k_type, k);
        let v = match v {
            Values::Own(v) => self.write_cache(format!("cache_v.{layer}"), v_type, v),
            Values::InKeys(n) => self.first_of_keys(k, n),
        };
        let paging = Paging {
            positions: self.batch.positions,
            sequences: self.batch.sequences,
            block_table: self.batch.block_table,
        };
        let attention = Attention { block_size: self.cache.block_size, ..attention };
        q.attention(k, v, paging, sinks, &attention)
            .reshape([v.dim(0) * q.dim(1), self.batch.n_tokens])
            .named(format!("attn.{layer}"))
    }

    /// Writes the heads of the batch's tokens, F32 `[head_dim, n_head_kv, n_tokens]`, into a state of the cache.
    #[track_caller]
    fn write_cache(&self, name: String, dtype: DType, x: Tensor<'g>) -> Tensor<'g> {
        if !x.dim(0).is_multiple_of(dtype.block_elements()) {
            return self.graph.refuse("state", &name, cut_block(dtype, x.dim(0)));
        }
        let shape = [x.dim(0), x.dim(1), self.cache.n_slots()];
        self.graph.state(&name, dtype, shape).kv_write(x, self.batch.slots).named(name)
    }

    /// The first `n` elements of each cached key, as values.
    #[track_caller]
    fn first_of_keys(&self, k: Tensor<'g>, n: usize) -> Tensor<'g> {
        let dtype = self.cache_types.k;
        if !n.is_multiple_of(dtype.block_elements()) {
            return self.graph.refuse("state", "values in the keys' cache", cut_block(dtype, n));
        }
        k.slice(0, 0, n)
    }

    /// Attention of all tokens before, with this factor of the scores.
    pub fn causal(&self, scale: f32) -> Attention {
        Attention { scale, window: None, softcap: None, block_size: self.cache.block_size }
    }

    /// Turns heads `[head_dim, n_head, n_tokens]` by their tokens' positions. `factors` divides the frequencies
    /// if the file has it.
    #[track_caller]
    pub fn rope(&self, x: Tensor<'g>, factors: &str, rope: &Rope) -> Tensor<'g> {
        match self.opt_weight(factors, [rope.n_rot / 2]) {
            Some(factors) => x.rope_with_factors(self.batch.positions, factors, rope),
            None => x.rope(self.batch.positions, rope),
        }
    }

    /// The rows of `x` whose logits or states are wanted. Called before the last layer's feed-forward part, so that
    /// the rest is done for those only.
    #[track_caller]
    pub fn wanted_rows(&self, x: Tensor<'g>) -> Tensor<'g> {
        match self.batch.wanted {
            Some(wanted) => x.get_rows(wanted),
            None => x,
        }
    }

    /// Says that the file's tensors of names that begin so have no part in the next token: layers that guess further
    /// ahead, say.
    pub fn leave_out(&self, prefix: &str) {
        self.left_out.borrow_mut().push(prefix.to_string());
    }

    /// Tensors of the file that the graph does not use.
    pub(super) fn unused(&self) -> Vec<String> {
        let (used, left_out) = (self.used.borrow(), self.left_out.borrow());
        let known = |name: &str| {
            used.contains_key(name) || left_out.iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        let unused = self.gguf.tensors().iter().filter(|info| !known(&info.name));
        unused.map(|info| info.name.to_string()).collect()
    }
}
