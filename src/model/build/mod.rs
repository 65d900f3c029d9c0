//! The builder that architectures use: the batch, the weights by name, the states, and the end of the model.
//!
//! This folder knows graphs, operators and the sizes of states. It does not know executors or sessions.

mod attend;
mod experts;
mod head;
mod shape;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::{CacheLayout, CacheTypes};
use crate::gguf::Gguf;
use crate::graph::{Graph, Tensor};
use crate::ops::Rope;
use crate::tensor::{DType, Shape};

use attend::Cached;
pub use attend::{Heads, Values};
pub use experts::{ExpertActivation, Experts, Gating};
pub use head::Head;
pub(super) use head::{ARGMAX, HIDDEN, LOGITS, PASSED, TOP_IDS, TOP_LOGITS};
pub use shape::Portion;
pub(super) use shape::{BatchShape, GraphRequest, OutputCounts, PROMPT_ROWS};

/// The inputs of one batch. Padding rows have slot and sequence -1.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'g> {
    /// Token ids, I32 `[n_rows]`; 0 for an embedding row.
    pub tokens: Tensor<'g>,
    /// Position of each row in its sequence, I32 `[n_rows]`; a row attends to the rows up to its position.
    pub positions: Tensor<'g>,
    /// Slot of the KV cache that each row is written to, I32 `[n_rows]`.
    pub slots: Tensor<'g>,
    /// Sequence of each row, I32 `[n_rows]`.
    pub sequences: Tensor<'g>,
    /// Block tables, I32 `[blocks_per_sequence, n_sequences]`.
    pub block_table: Tensor<'g>,
    /// The rows that have an output, I32 `[n_outputs]`; `None`: all rows.
    pub wanted: Option<Tensor<'g>>,
    /// Rows in the batch.
    pub n_rows: usize,
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
    shape: BatchShape,
    /// Number of positions of a row.
    n_pos: usize,
    /// The input with the positions of rows, if a row has several.
    row_positions: RefCell<Option<Tensor<'g>>>,
    /// The input of [`ModelBuilder::runs`].
    runs: RefCell<Option<Tensor<'g>>>,
    /// The caches declared so far, by layer.
    cached: RefCell<BTreeMap<usize, Cached<'g>>>,
    /// The weights used so far: a weight that is used twice (tied embeddings) is one node.
    used: RefCell<BTreeMap<String, Tensor<'g>>>,
    /// Prefixes of the names of tensors that do not contribute to the next token.
    left_out: RefCell<Vec<String>>,
}

impl<'g, 'm> ModelBuilder<'g, 'm> {
    pub(super) fn new(graph: &'g Graph, gguf: &'m Gguf, request: &GraphRequest) -> ModelBuilder<'g, 'm> {
        let GraphRequest { shape, n_pos, cache, cache_types, ref portion } = *request;
        let n_rows = shape.n_rows();
        let ids = |name: &str| graph.input(name, DType::I32, [n_rows]);
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
            wanted: shape.gather.then(|| graph.input("wanted", DType::I32, [shape.n_outputs()])),
            n_rows,
        };
        ModelBuilder {
            graph,
            gguf,
            batch,
            cache,
            cache_types,
            portion: portion.clone(),
            shape,
            n_pos,
            row_positions: RefCell::default(),
            runs: RefCell::default(),
            cached: RefCell::default(),
            used: RefCell::default(),
            left_out: RefCell::default(),
        }
    }

    /// The graph under construction.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The batch's inputs.
    pub fn batch(&self) -> &Batch<'g> {
        &self.batch
    }

    /// The layers that this graph computes, of a model of `n_layer` layers.
    pub fn layers(&self, n_layer: usize) -> Range<usize> {
        self.portion.layers.start.min(n_layer)..self.portion.layers.end.min(n_layer)
    }

    /// The input of this graph's first layer, F32 `[n_embd, n_rows]`: the embeddings of the tokens computed by `embed`,
    /// with the batch's embedding rows in their places, or the output of the previous portion of the model.
    #[track_caller]
    pub fn embed(&self, n_embd: usize, embed: impl FnOnce() -> Tensor<'g>) -> Tensor<'g> {
        if !self.portion.embeds {
            return self.graph.input(PASSED, DType::F32, [n_embd, self.batch.n_rows]);
        }
        let of_tokens = embed();
        if self.shape.n_embedded == 0 {
            return of_tokens;
        }
        let given = self.graph.input("embeddings", DType::F32, [n_embd, self.shape.n_embedded]);
        let source = self.graph.input("embedding_of_row", DType::I32, [self.batch.n_rows]);
        of_tokens.concat(&[given], 1).get_rows(source).named("rows")
    }

    /// Position number `i` of each row, I32 `[n_rows]`: the position in its sequence or, for models whose rows have
    /// several positions (M-RoPE), the `i`-th of them.
    #[track_caller]
    pub fn position(&self, i: usize) -> Tensor<'g> {
        if self.n_pos == 1 && i == 0 {
            return self.batch.positions;
        }
        if i >= self.n_pos {
            let reason = format!("a row carries {} positions", self.n_pos);
            return self.graph.refuse("input", &format!("position {i}"), reason);
        }
        let (n_rows, n_pos) = (self.batch.n_rows, self.n_pos);
        let input = || self.graph.input("row_positions", DType::I32, [n_rows, n_pos]);
        let all = *self.row_positions.borrow_mut().get_or_insert_with(input);
        all.slice(1, i, 1).reshape([n_rows])
    }

    /// A weight of the file, which must have this shape. Its dtype is that of the file.
    #[track_caller]
    pub fn weight(&self, name: &str, shape: impl Into<Shape>) -> Tensor<'g> {
        let shape = shape.into();
        self.opt_weight(name, shape).unwrap_or_else(|| {
            let reason = format!("the file has no such tensor; its hyper-parameters ask for one of {shape}");
            self.graph.refuse("weight", name, reason)
        })
    }

    /// A weight that the file may lack.
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

    /// The file has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The number of tokens that one sequence may hold.
    pub fn n_ctx(&self) -> usize {
        self.cache.n_ctx
    }

    /// `x · Wᵀ`, times the scale and plus the bias if the file has them: `name.weight`, `name.scale` (one number, as in
    /// NVFP4 files) and `name.bias`.
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

    /// Applies rotary embedding to heads `[head_dim, n_head, n_rows]` by the positions of their rows. The tensor
    /// `factors` divides the frequencies if the file has it.
    #[track_caller]
    pub fn rope(&self, x: Tensor<'g>, factors: &str, rope: &Rope) -> Tensor<'g> {
        match self.opt_weight(factors, [rope.n_rot / 2]) {
            Some(factors) => x.rope_with_factors(self.position(0), factors, rope),
            None => x.rope(self.position(0), rope),
        }
    }

    /// The rows of `x` that have an output. Call it before the last layer's feed-forward part, so that the rest is
    /// computed for these rows only.
    #[track_caller]
    pub fn wanted_rows(&self, x: Tensor<'g>) -> Tensor<'g> {
        match self.batch.wanted {
            Some(wanted) => x.get_rows(wanted),
            None => x,
        }
    }

    /// Declares that the file's tensors with this prefix do not contribute to the next token, for example layers that
    /// predict further tokens.
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
