//! `attention`: scaled dot-product attention over a paged cache, with a softmax that never holds a
//! whole row of scores (Milakov and Gimelshein 2018; Dao et al. 2022).

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

/// Query rows of one tile: enough to make reading and converting a block of keys cheap.
const ROWS: usize = 64;
/// Query heads of one tile, where more share a head of keys: a single token still keeps several threads busy.
const HEADS: std::ops::RangeInclusive<usize> = 4..=8;

/// Causal attention of new tokens over the cached keys and values of their sequences.
///
/// Inputs: `q`, `F32[head_dim, n_head, n_tokens]`; the states `k`, `[head_dim, n_head_kv, n_slots]`, and
/// `v`, `[head_dim_v, n_head_kv, n_slots]`, each of one of [`KvWrite::TYPES`]; `positions`, `I32[n_tokens]`; `sequences`,
/// `I32[n_tokens]`, negative for a token that is only padding; `block_table`, `I32[n_blocks, n_seq]`; and,
/// if given, `sinks`, `F32[n_head]`: a score for each head that takes part in the softmax without a value.
///
/// Output: `F32[head_dim_v, n_head, n_tokens]`, zeros for padding. The token at position `p` attends to
/// positions `0..=p` of its sequence. Position `j` of sequence `s` is in the slot
/// `block_table[j / block_size, s] · block_size + j % block_size`. Head `h` reads the keys and values of
/// head `h / (n_head / n_head_kv)`. Keys and values may differ in type and in `head_dim`, and the values may be a part
/// of the keys (a `slice` of them).
///
/// On a CPU keys are taken in blocks of 64 positions, in order, for any number of threads and of tokens; blocks of Q8_0
/// and Q4_0 are read as the F32 values that they stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Factor of the scores, mostly `1 / √head_dim`.
    pub scale: f32,
    /// Attend only to the last so many positions, the token's own counted.
    pub window: Option<usize>,
    /// Scores go through `c · tanh(score / c)`.
    pub softcap: Option<f32>,
    /// Slots of a block of the cache.
    pub block_size: usize,
    /// So many tokens at the end of the batch are of sequences that have one or few tokens in it; those before them are
    /// chunks of prompts. All tokens, where it is not less than `n_tokens`. It chooses a GPU's kernels and changes no
    /// meaning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_single: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The inputs of [`Tensor::attention`] that say which slots a token attends to.
#[derive(Clone, Copy, Debug)]
pub struct Paging<'g> {
    /// Each token's position in its sequence, `I32[n_tokens]`.
    pub positions: Tensor<'g>,
    /// Each token's sequence, `I32[n_tokens]`; negative for padding.
    pub sequences: Tensor<'g>,
    /// The blocks of each sequence, `I32[n_blocks, n_seq]`; negative for a block that is not there.
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
        // Tokens of a tile share the keys of one head, so a tile is queries of that head.
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
        // How much of the caches is read is known at run time only; at least the new tokens' own share.
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

/// What the pieces of a step are for these inputs.
fn sizes_of(inputs: &[Desc]) -> Sizes {
    let dim = |i: usize, d: usize| inputs.get(i).map_or(1, |desc| desc.shape.dim(d));
    let group = (dim(0, 1) / dim(1, 1)).max(1);
    let heads = heads_of_tile(group);
    let tokens = (ROWS / heads).min(dim(0, 2)).max(1);
    Sizes { head_dim: dim(0, 0), head_dim_v: dim(2, 0), group, heads, tokens }
}

/// Query heads of a tile, of those that share a head of keys: all, or equal parts of many.
fn heads_of_tile(group: usize) -> usize {
    if group <= *HEADS.end() {
        return group;
    }
    HEADS.rev().find(|heads| group.is_multiple_of(*heads)).unwrap_or(group)
}
