//! The attention of a few queries that share a key head, block by block.

use std::ops::Range;

use half::{bf16, f16};

use super::Attention;
use crate::cpu::vector::{self, Element, LANES};
use crate::cpu::{CpuStep, Isa, StepError, Tile, View, math};
use crate::tensor::DType;

/// Keys of a block.
pub const KEYS: usize = 64;

/// The largest sizes of a tile.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub head_dim: usize,
    pub head_dim_v: usize,
    /// The number of query heads that share a key head, and how many of them a tile has.
    pub group: usize,
    pub heads: usize,
    pub tokens: usize,
}

impl Sizes {
    /// Columns of the matrices of values, rounded up to whole vectors.
    fn columns(&self) -> usize {
        self.head_dim_v.next_multiple_of(LANES)
    }

    fn rows(&self) -> usize {
        self.heads * self.tokens
    }

    /// Elements of scratch memory for the buffers.
    pub fn scratch(&self) -> usize {
        let keys = 2 * KEYS * self.head_dim + KEYS * self.columns();
        keys + self.rows() * (self.head_dim + KEYS + self.columns() + 2)
    }
}

/// A worker's memory, row-major matrices of F32.
pub struct Buffers<'s> {
    sizes: Sizes,
    /// Scaled queries, `rows × head_dim`.
    q: &'s mut [f32],
    /// Keys, `KEYS × head_dim`, and their transpose.
    k: &'s mut [f32],
    k_transposed: &'s mut [f32],
    /// Values, `KEYS × columns`; columns past `head_dim_v` are zero.
    v: &'s mut [f32],
    /// Scores and then weights, `rows × KEYS`.
    scores: &'s mut [f32],
    /// Weighted sums of the values so far, `rows × columns`.
    out: &'s mut [f32],
    /// The largest score so far of each row, and the sum of weights relative to it.
    largest: &'s mut [f32],
    sum: &'s mut [f32],
}

impl<'s> Buffers<'s> {
    /// Divides scratch memory of [`Sizes::scratch`] elements into the buffers.
    pub fn new(sizes: Sizes, scratch: &'s mut [f32]) -> Buffers<'s> {
        let mut rest = scratch;
        let mut take = |n: usize| {
            let (taken, left) = std::mem::take(&mut rest).split_at_mut(n);
            rest = left;
            taken
        };
        let (rows, columns) = (sizes.rows(), sizes.columns());
        let buffers = Buffers {
            sizes,
            q: take(rows * sizes.head_dim),
            k: take(KEYS * sizes.head_dim),
            k_transposed: take(KEYS * sizes.head_dim),
            v: take(KEYS * columns),
            scores: take(rows * KEYS),
            out: take(rows * columns),
            largest: take(rows),
            sum: take(rows),
        };
        // Scratch memory is not cleared and may contain NaN.
        buffers.v.fill(0.0);
        buffers
    }
}

/// Adjacent tokens of one sequence that attend to one range of positions together.
pub struct Run {
    /// The tokens.
    pub tokens: Range<usize>,
    /// The positions, each attended to by at least one token.
    span: Range<usize>,
}

/// Reads a row of a cache as F32.
type ReadRow = fn(&View<'_>, (usize, usize, usize), &mut [f32]) -> Result<(), StepError>;

/// The function that reads rows of a type.
fn read_row(dtype: DType) -> ReadRow {
    fn plain<T: Element>(
        rows: &View<'_>,
        index: (usize, usize, usize),
        out: &mut [f32],
    ) -> Result<(), StepError> {
        T::widen(rows.row(index), out);
        Ok(())
    }
    match dtype {
        DType::F32 => plain::<f32>,
        DType::F16 => plain::<f16>,
        DType::BF16 => plain::<bf16>,
        _ => |rows, index, out| rows.load(0, index, out),
    }
}

/// A step's inputs.
pub struct Paged<'a> {
    op: &'a Attention,
    isa: Isa,
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    positions: &'a [i32],
    sequences: &'a [i32],
    block_table: View<'a>,
    sinks: Option<&'a [f32]>,
    read_k: ReadRow,
    read_v: ReadRow,
}

impl<'a> Paged<'a> {
    /// The inputs of a step of the operator.
    pub fn new(op: &'a Attention, step: &'a CpuStep<'_>) -> Paged<'a> {
        Paged {
            op,
            isa: step.isa(),
            q: step.input(0),
            k: step.input(1),
            v: step.input(2),
            positions: step.input(3).all(),
            sequences: step.input(4).all(),
            block_table: step.input(5),
            sinks: (step.n_inputs() == 7).then(|| step.input(6).all()),
            read_k: read_row(step.input(1).desc().dtype),
            read_v: read_row(step.input(2).desc().dtype),
        }
    }

    /// The longest run that starts at token `first` and ends before `end`.
    pub fn run_from(&self, first: usize, end: usize) -> Result<Run, StepError> {
        let sequence = self.sequences[first];
        let mut run = Run { tokens: first..first, span: 0..0 };
        for token in first..end {
            if self.sequences[token] != sequence {
                break;
            }
            let range = if sequence < 0 { 0..0 } else { self.range(token)? };
            if token == first {
                run.span = range.clone();
            }
            if range.start > run.span.end || run.span.start > range.end {
                break;
            }
            run.span = run.span.start.min(range.start)..run.span.end.max(range.end);
            run.tokens.end = token + 1;
        }
        Ok(run)
    }

    /// The attention of a run of tokens, whose rows are in the tile.
    pub fn attend(&self, buffers: &mut Buffers<'_>, tile: &mut Tile<'_>, run: Run) -> Result<(), StepError> {
        let (heads, Run { tokens, span }) = (tile.i1(), run);
        if self.sequences[tokens.start] < 0 {
            for token in tokens {
                for head in heads.clone() {
                    tile.row::<f32>(head, token)?.fill(0.0);
                }
            }
            return Ok(());
        }
        let table = self.blocks_of(self.sequences[tokens.start])?;
        self.start(buffers, &heads, &tokens);
        let rows = tokens.len() * heads.len();
        for block in span.start / KEYS..span.end.div_ceil(KEYS) {
            let first = block * KEYS;
            let wanted = span.start.max(first)..span.end.min(first + KEYS);
            self.load(buffers, table, heads.start / buffers.sizes.group, first, wanted)?;
            self.score(buffers, rows);
            for (row, token) in tokens.clone().flat_map(|token| heads.clone().map(move |_| token)).enumerate()
            {
                let range = self.range(token)?;
                let inside = |position: usize| position.clamp(first, first + KEYS) - first;
                self.weigh(buffers, row, inside(range.start)..inside(range.end));
            }
            let (weights, columns) = (&buffers.scores[..rows * KEYS], buffers.sizes.columns());
            vector::multiply_add(
                self.isa,
                weights,
                KEYS,
                buffers.v,
                columns,
                &mut buffers.out[..rows * columns],
            );
        }
        self.finish(buffers, tile, &tokens)
    }

    /// The positions that a token attends to.
    fn range(&self, token: usize) -> Result<Range<usize>, StepError> {
        let limit = self.block_table.dim(0) * self.op.block_size;
        let end = StepError::check("a token's position", self.positions[token], limit)? + 1;
        Ok(self.op.window.map_or(0, |window| end.saturating_sub(window))..end)
    }

    /// The block table's row of a sequence.
    fn blocks_of(&self, sequence: i32) -> Result<&'a [i32], StepError> {
        let sequence = StepError::check("a token's sequence", sequence, self.block_table.dim(1))?;
        Ok(self.block_table.row((sequence, 0, 0)))
    }

    /// Loads the queries and resets the sums of the last run.
    fn start(&self, buffers: &mut Buffers<'_>, heads: &Range<usize>, tokens: &Range<usize>) {
        let rows = tokens.clone().flat_map(|token| heads.clone().map(move |head| (head, token)));
        let q = buffers.q.chunks_exact_mut(buffers.sizes.head_dim);
        for (i, ((head, token), q)) in rows.zip(q).enumerate() {
            q.copy_from_slice(self.q.row((head, token, 0)));
            vector::map(self.isa, q, |x| x * self.op.scale);
            // A sink is an initial score without a value.
            let sink = self.sinks.map(|sinks| sinks[head]);
            buffers.largest[i] = sink.unwrap_or(f32::NEG_INFINITY);
            buffers.sum[i] = if sink.is_some() { 1.0 } else { 0.0 };
        }
        buffers.out.fill(0.0);
    }

    /// Loads the keys and values of the wanted positions in the block that starts at `first`.
    fn load(
        &self,
        buffers: &mut Buffers<'_>,
        table: &[i32],
        head: usize,
        first: usize,
        wanted: Range<usize>,
    ) -> Result<(), StepError> {
        let (head_dim, head_dim_v, columns) =
            (buffers.sizes.head_dim, buffers.sizes.head_dim_v, buffers.sizes.columns());
        if wanted.len() < KEYS {
            // Unread values have weight 0, which must not be multiplied with NaN.
            buffers.k.fill(0.0);
            buffers.v.fill(0.0);
        }
        let (block_size, blocks) = (self.op.block_size, self.k.dim(2) / self.op.block_size);
        let mut position = wanted.start;
        while position < wanted.end {
            let entry = table[position / block_size];
            let block = StepError::check("the cache block of an attended position", entry, blocks)?;
            let end = wanted.end.min((position / block_size + 1) * block_size);
            for position in position..end {
                let (i, slot) = (position - first, block * block_size + position % block_size);
                let row = (head, slot, 0);
                (self.read_k)(&self.k, row, &mut buffers.k[i * head_dim..(i + 1) * head_dim])?;
                (self.read_v)(&self.v, row, &mut buffers.v[i * columns..i * columns + head_dim_v])?;
            }
            position = end;
        }
        Ok(())
    }

    /// The products of the queries with the keys of the block.
    fn score(&self, buffers: &mut Buffers<'_>, rows: usize) {
        let head_dim = buffers.sizes.head_dim;
        vector::transpose(self.isa, buffers.k, head_dim, buffers.k_transposed, KEYS);
        let (q, scores) = (&buffers.q[..rows * head_dim], &mut buffers.scores[..rows * KEYS]);
        scores.fill(0.0);
        vector::multiply_add(self.isa, q, head_dim, buffers.k_transposed, KEYS, scores);
    }

    /// Turns a row's scores in the range into weights relative to the largest score so far, and rescales the earlier
    /// sums to it.
    fn weigh(&self, buffers: &mut Buffers<'_>, row: usize, range: Range<usize>) {
        let scores = &mut buffers.scores[row * KEYS..(row + 1) * KEYS];
        if range.is_empty() {
            return scores.fill(0.0);
        }
        scores[..range.start].fill(f32::NEG_INFINITY);
        scores[range.end..].fill(f32::NEG_INFINITY);
        if let Some(softcap) = self.op.softcap {
            vector::map(self.isa, &mut scores[range], |x| softcap * math::tanh(x / softcap));
        }
        let (largest, sum) = (&mut buffers.largest[row], &mut buffers.sum[row]);
        let before = std::mem::replace(largest, largest.max(vector::max(self.isa, scores)));
        let largest = *largest;
        if largest == f32::NEG_INFINITY {
            // All scores are -∞ so far, so all weights are 0.
            return scores.fill(0.0);
        }
        vector::map(self.isa, scores, |x| math::exp(x - largest));
        let weight = vector::sum_of(self.isa, scores, |x| x);
        if before == largest {
            *sum += weight;
            return;
        }
        let factor = math::exp(before - largest);
        *sum = sum.mul_add(factor, weight);
        let columns = buffers.sizes.columns();
        vector::map(self.isa, &mut buffers.out[row * columns..(row + 1) * columns], |x| x * factor);
    }

    /// Divides by the sums of weights. A row with all weights 0 becomes zeros.
    fn finish(
        &self,
        buffers: &Buffers<'_>,
        tile: &mut Tile<'_>,
        tokens: &Range<usize>,
    ) -> Result<(), StepError> {
        let (heads, columns) = (tile.i1(), buffers.sizes.columns());
        let rows = tokens.clone().flat_map(|token| heads.clone().map(move |head| (head, token)));
        for ((head, token), (sum, out)) in rows.zip(buffers.sum.iter().zip(buffers.out.chunks(columns))) {
            let factor = if *sum == 0.0 { 0.0 } else { 1.0 / sum };
            for (to, from) in tile.row::<f32>(head, token)?.iter_mut().zip(out) {
                *to = from * factor;
            }
        }
        Ok(())
    }
}
