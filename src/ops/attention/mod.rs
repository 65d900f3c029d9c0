//! `attention`: scaled dot-product attention over a paged cache, with an online softmax that never stores a whole row
//! of scores (Milakov and Gimelshein 2018; Dao et al. 2022).

mod case;
mod device;
mod tile;

use serde::{Deserialize, Serialize};

use self::tile::{Buffers, Paged, Sizes};
use super::{KvWrite, rule};
use crate::cpu::{CpuStep, StepError};
use crate::device::{Lower, LowerError};
use crate::graph::case::{Case, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// Query rows of one tile: enough to amortise reading and converting a block of keys.
const ROWS: usize = 64;
/// Query heads of one tile, if more share a key head: a single token then still keeps several threads busy.
const HEADS: std::ops::RangeInclusive<usize> = 4..=8;

/// Causal attention of new tokens over the cached keys and values of their sequences.
///
/// Inputs: `q`, `F32[head_dim, n_head, n_tokens]`; the states `k`, `[head_dim, n_head_kv, n_slots]`, and `v`,
/// `[head_dim_v, n_head_kv, n_slots]`, each of one of [`KvWrite::TYPES`]; `positions`, `I32[n_tokens]`; `sequences`,
/// `I32[n_tokens]`, negative for padding; `block_table`, `I32[n_blocks, n_seq]`; and optionally `sinks`, `F32[n_head]`:
/// an additional score per head that takes part in the softmax without a value.
///
/// Output: `F32[head_dim_v, n_head, n_tokens]`, zeros for padding. The token at position `p` attends to positions
/// `0..=p` of its sequence. Position `j` of sequence `s` is in the slot `block_table[j / block_size, s] · block_size +
/// j % block_size`. Head `h` reads the keys and values of head `h / (n_head / n_head_kv)`. Keys and values may differ
/// in type and in `head_dim`, and the values may be a part of the keys (a `slice` of them).
///
/// On a CPU keys are processed in blocks of 64 positions, in order, for any number of threads and of tokens; blocks of
/// Q8_0 and Q4_0 are read as their F32 values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Factor of the scores, mostly `1 / √head_dim`.
    pub scale: f32,
    /// Attend only to the last `window` positions, including the token's own.
    pub window: Option<usize>,
    /// Replace scores by `c · tanh(score / c)`.
    pub softcap: Option<f32>,
    /// Slots of a block of the cache.
    pub block_size: usize,
    /// The number of tokens at the end of the batch whose sequences have one or few tokens in it; those before them are
    /// chunks of prompts. All tokens are, if it is not less than `n_tokens`. It only selects a GPU's kernels and does
    /// not change the result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_single: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The inputs of [`Tensor::attention`] that define the slots that a token attends to.
#[derive(Clone, Copy, Debug)]
pub struct Paging<'g> {
    /// Each token's position in its sequence, `I32[n_tokens]`.
    pub positions: Tensor<'g>,
    /// Each token's sequence, `I32[n_tokens]`; negative for padding.
    pub sequences: Tensor<'g>,
    /// The blocks of each sequence, `I32[n_blocks, n_seq]`; negative for a missing block.
    pub block_table: Tensor<'g>,
}

impl<'g> Tensor<'g> {
    /// Attention of the queries `self`, `F32[head_dim, n_head, n_tokens]`, over the caches `k` and `v`,
    /// `[head_dim, n_head_kv, n_slots]`; see [`Attention`]. `sinks` is `F32[n_head]`.
    #[track_caller]
    pub fn attention(
        self,
        k: Tensor<'g>,
        v: Tensor<'g>,
        paging: Paging<'g>,
        sinks: Option<Tensor<'g>>,
        attention: &Attention,
    ) -> Tensor<'g> {
        let Paging { positions, sequences, block_table } = paging;
        let mut inputs = vec![self, k, v, positions, sequences, block_table];
        inputs.extend(sinks);
        self.graph().apply(attention.clone(), &inputs)
    }
}

impl Operator for Attention {
    const NAME: &'static str = "attention";

    fn defaults() -> Option<Attention> {
        Some(Attention { scale: 0.0, window: None, softcap: None, block_size: 0, n_single: 0 })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [q, k, v, _, _, table, sinks @ ..] = inputs else {
            return Err(ShapeError::Arity { wanted: "6 or 7", found: inputs.len() });
        };
        if sinks.len() > 1 {
            return Err(ShapeError::Arity { wanted: "6 or 7", found: inputs.len() });
        }
        let fail = |rule: &str| Err(ShapeError::rule(rule, inputs));
        let cache = |desc: &Desc| KvWrite::TYPES.contains(&desc.dtype);
        if q.dtype != DType::F32 || !cache(k) || !cache(v) {
            return fail("the queries must be F32, the caches F32, F16, BF16, Q8_0 or Q4_0");
        }
        if [q, k, v].iter().any(|desc| desc.shape.dim(3) != 1) {
            return fail("queries and caches must be [head_dim, heads, tokens or slots]");
        }
        if q.shape.dim(0) != k.shape.dim(0) {
            return fail("queries and keys must have one head_dim");
        }
        if k.shape.dim(1) != v.shape.dim(1) || k.shape.dim(2) != v.shape.dim(2) {
            return fail("keys and values must have the same heads and slots");
        }
        if !q.shape.dim(1).is_multiple_of(k.shape.dim(1)) {
            return fail("n_head must be a multiple of n_head_kv");
        }
        if self.block_size == 0 || !k.shape.dim(2).is_multiple_of(self.block_size) {
            return fail(&format!("the slots must be whole blocks of {}", self.block_size));
        }
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if self.window == Some(0) || self.softcap.is_some_and(|softcap| !positive(softcap)) {
            return fail("window and softcap must be above 0, and finite");
        }
        if !self.scale.is_finite() {
            return fail("the factor of the scores must be finite");
        }
        rule::vector(inputs, 3, DType::I32, q.shape.dim(2), "the positions")?;
        rule::vector(inputs, 4, DType::I32, q.shape.dim(2), "the sequences")?;
        if table.dtype != DType::I32 || !table.is_contiguous() || table.shape.rows() != table.shape.dim(1) {
            return fail("the block table must be I32[n_blocks, n_seq] without gaps");
        }
        if !sinks.is_empty() {
            rule::vector(inputs, 6, DType::F32, q.shape.dim(1), "the sinks")?;
        }
        rule::whole_rows(inputs)?;
        Ok(Desc::contiguous(DType::F32, [v.shape.dim(0), q.shape.dim(1), q.shape.dim(2)])?)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(sizes_of(inputs).scratch(), threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let sizes = sizes_of(&[0, 1, 2].map(|i| *step.input(i).desc()));
        let mut buffers = Buffers::new(sizes, step.take_scratch());
        let paged = Paged::new(self, step);
        // Tokens of a tile share the keys of one head, so a tile has queries of one key head.
        step.for_tiles((sizes.heads, sizes.tokens), |mut tile| {
            let (mut first, end) = (tile.i2().start, tile.i2().end);
            while first < end {
                let run = paged.run_from(first, end)?;
                first = run.tokens.end;
                paged.attend(&mut buffers, &mut tile, run)?;
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        self.lower(lower)
    }

    fn reads_state_blocks(&self, input: usize) -> bool {
        matches!(input, 1 | 2)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        // The number of keys that are read is known only at run time; it is at least that of the new tokens.
        let q = inputs.first().map_or(0, Desc::data_bytes);
        let (rows, n_tokens) = (output.shape.rows() as u64, output.shape.dim(2));
        let slot = |desc: &Desc| desc.data_bytes() / desc.shape.dim(2).max(1);
        let caches: usize = inputs.iter().skip(1).take(2).map(slot).sum();
        let head_dim = inputs.first().map_or(0, |q| q.shape.dim(0)) + output.shape.dim(0);
        let bytes = q + output.data_bytes() + n_tokens * caches;
        Cost { bytes: bytes as u64, flops: 2 * rows * head_dim as u64 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        case::case(draw)
    }
}

/// The sizes of a tile for these inputs.
fn sizes_of(inputs: &[Desc]) -> Sizes {
    let dim = |i: usize, d: usize| inputs.get(i).map_or(1, |desc| desc.shape.dim(d));
    let group = (dim(0, 1) / dim(1, 1)).max(1);
    let heads = heads_of_tile(group);
    let tokens = (ROWS / heads).min(dim(0, 2)).max(1);
    Sizes { head_dim: dim(0, 0), head_dim_v: dim(2, 0), group, heads, tokens }
}

/// Query heads of a tile, of those that share a key head: all of them, or equal parts of many.
fn heads_of_tile(group: usize) -> usize {
    if group <= *HEADS.end() {
        return group;
    }
    HEADS.rev().find(|heads| group.is_multiple_of(*heads)).unwrap_or(group)
}
