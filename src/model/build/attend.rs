//! Attention over cached keys and values, and the states of a layer.

use super::ModelBuilder;
use crate::graph::Tensor;
use crate::model::CacheTypes;
use crate::ops::{Attention, Paging};
use crate::tensor::{DType, Shape};

/// The heads of one layer's attention. A tuple of queries, keys and values converts into it: `b.attend(il, (q, k, v),
/// attention)`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'g> {
    /// Queries, F32 `[head_dim, n_head, n_rows]`.
    pub q: Tensor<'g>,
    /// Keys, F32 `[head_dim, n_head_kv, n_rows]`.
    pub k: Tensor<'g>,
    /// The values, of their own or in the keys.
    pub v: Values<'g>,
    /// A score for each head that takes part in the softmax without a value, F32 `[n_head]`.
    pub sinks: Option<Tensor<'g>>,
}

/// The values of one layer's attention.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Values<'g> {
    /// Values of their own, F32 `[head_dim_v, n_head_kv, n_rows]`.
    Own(Tensor<'g>),
    /// The first elements of each key, this many, as in DeepSeek's latent attention: they are cached once, in the dtype
    /// of the keys.
    InKeys(usize),
}

impl<'g> From<(Tensor<'g>, Tensor<'g>, Tensor<'g>)> for Heads<'g> {
    fn from((q, k, v): (Tensor<'g>, Tensor<'g>, Tensor<'g>)) -> Heads<'g> {
        Heads { q, k, v: Values::Own(v), sinks: None }
    }
}

/// A layer's cached keys and values, the batch's own rows included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached<'g> {
    k: Tensor<'g>,
    v: Tensor<'g>,
}

/// The error that heads of this size do not fit a block format.
fn cut_block(dtype: DType, head_dim: usize) -> String {
    let block = dtype.block_elements();
    format!(
        "its heads have {head_dim} elements, and {dtype} keeps whole blocks of {block}; \
         choose a cache type of f16, bf16 or f32"
    )
}

impl<'g> ModelBuilder<'g, '_> {
    /// Writes keys and values into layer `layer` of the cache and computes attention of the queries over all rows of
    /// their sequence up to themselves. Returns `[head_dim_v · n_head, n_rows]`. Heads, widths and window may differ
    /// between layers.
    #[track_caller]
    pub fn attend(&self, layer: usize, heads: impl Into<Heads<'g>>, attention: Attention) -> Tensor<'g> {
        let Heads { q, k, v, sinks } = heads.into();
        let CacheTypes { k: k_type, v: v_type } = self.cache_types;
        let k = self.write_cache(format!("cache_k.{layer}"), k_type, k);
        let v = match v {
            Values::Own(v) => self.write_cache(format!("cache_v.{layer}"), v_type, v),
            Values::InKeys(n) => self.first_of_keys(k, n),
        };
        self.cached.borrow_mut().insert(layer, Cached { k, v });
        self.attend_to(layer, Cached { k, v }, q, sinks, attention)
    }

    /// Attention of the queries of layer `layer` over the keys and values that layer `of` has written in this batch,
    /// for layers without a cache of their own. Returns `[head_dim_v · n_head, n_rows]`.
    #[track_caller]
    pub fn attend_shared(
        &self,
        layer: usize,
        of: usize,
        (q, sinks): (Tensor<'g>, Option<Tensor<'g>>),
        attention: Attention,
    ) -> Tensor<'g> {
        let cached = self.cached.borrow().get(&of).copied();
        match cached {
            Some(cached) => self.attend_to(layer, cached, q, sinks, attention),
            None => {
                let reason = format!(
                    "layer {layer} reads the cache of layer {of}, which this device does not compute before it; put \
                     both on one device"
                );
                self.graph.refuse("attention", &format!("blk.{layer}.attn"), reason)
            }
        }
    }

    #[track_caller]
    fn attend_to(
        &self,
        layer: usize,
        Cached { k, v }: Cached<'g>,
        q: Tensor<'g>,
        sinks: Option<Tensor<'g>>,
        attention: Attention,
    ) -> Tensor<'g> {
        let paging = Paging {
            positions: self.batch.positions,
            sequences: self.batch.sequences,
            block_table: self.batch.block_table,
        };
        let (block_size, n_single) = (self.cache.block_size, self.shape.n_single);
        let attention = Attention { block_size, n_single, ..attention };
        q.attention(k, v, paging, sinks, &attention)
            .named(format!("blk.{layer}.attn"))
            .reshape([v.dim(0) * q.dim(1), self.batch.n_rows])
    }

    /// Writes the heads of the batch's rows, F32 `[head_dim, n_head_kv, n_rows]`, into a state of the cache.
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

    /// Causal attention with this factor of the scores.
    pub fn causal(&self, scale: f32) -> Attention {
        Attention { scale, window: None, softcap: None, block_size: self.cache.block_size, n_single: 0 }
    }

    /// A state of one size per sequence, whatever the sequence's length: F32 or another plain dtype, `shape` for each
    /// slot. The slots are its last dimension; the batch's runs ([`ModelBuilder::runs`]) give the slots that a sequence
    /// reads and writes.
    #[track_caller]
    pub fn recurrent_state(&self, name: &str, dtype: DType, shape: &[usize]) -> Tensor<'g> {
        let sizes = [shape, &[self.cache.n_recurrent_slots()]].concat();
        match Shape::new(&sizes) {
            Some(shape) => self.graph.recurrent_state(name, dtype, shape),
            None => self.graph.refuse("state", name, format!("a state of {sizes:?} is too large to address")),
        }
    }

    /// The rows of each sequence of the batch, I32 `[4, n_runs]`: its first row, its number of rows, the slot of its
    /// recurrent state before them (-1: it starts with zeros), and the slot for its state after them, which may be the
    /// same. A run of 0 rows is padding. Rows of one sequence are adjacent and in order; rows of no run are padding. No
    /// run writes a slot that another run reads or writes.
    pub fn runs(&self) -> Tensor<'g> {
        let n_runs = self.batch.n_rows.min(self.cache.n_sequences);
        *self.runs.borrow_mut().get_or_insert_with(|| self.graph.input("runs", DType::I32, [4, n_runs]))
    }
}
