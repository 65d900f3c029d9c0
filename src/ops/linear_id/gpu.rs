//! Selects the GPU kernels of products with selected experts.
//!
//! *Few rows per expert* are bound by reading weights: a block multiplies some rows of the expert of one row of the
//! output, with the kernels of [`linear`](crate::ops::Linear). *Many* are sorted by expert on the device (`group_rows`
//! of `kernels/experts.hip`) and multiplied tile by tile with matrix instructions, even where a BLAS library is
//! present: it would need each expert's number of rows on the host. A deterministic plan never groups.

use crate::device::constants::EXPERT_TILE_BYTES as TILE;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::ops::linear::gpu::{
    FEW_TOKENS, Few, many_threads, many_variant, n_blocks, quantize, quantized_bytes, takes_quantized,
};
use crate::tensor::DType;

/// The average number of rows per expert from which on rows are grouped.
const MANY_ROWS: usize = 4;

/// Rows of an expert, and rows of a weight, per block of the grouped kernel.
const SIDE: usize = 64;

/// The threads that group rows, at most.
const GROUP_THREADS: usize = 1024;

/// A product during lowering.
pub(super) struct ById {
    /// The weight's format.
    pub dtype: DType,
    /// Elements of a row of `x` and of the weight.
    pub k: usize,
    /// Rows of an expert.
    pub n_out: usize,
    /// Experts.
    pub n_expert: usize,
    /// Rows of the output.
    pub rows: usize,
    /// Rows of `x`.
    pub rows_of_x: usize,
    /// The bias is an input.
    pub bias: bool,
}

/// True if `rows` rows of the output, for `tokens` tokens, are grouped by expert.
pub(super) fn is_grouped(dtype: DType, n_expert: usize, rows: usize, tokens: usize) -> bool {
    // F32 is multiplied in F32.
    dtype != DType::F32 && tokens > FEW_TOKENS && rows >= MANY_ROWS * n_expert
}

impl ById {
    pub(super) fn lower(&self, lower: &mut Lower<'_>, tokens: usize) -> Result<(), LowerError> {
        if is_grouped(self.dtype, self.n_expert, self.rows, tokens) && !lower.is_deterministic() {
            self.many(lower)
        } else {
            self.few(lower)
        }
    }

    fn weight(&self) -> [Arg; 2] {
        let elements = self.k * self.n_out * self.n_expert;
        [Arg::Address(Which::Input(0), 0), n_blocks(self.dtype, elements)]
    }

    fn bias(&self) -> Arg {
        if self.bias { Arg::Address(Which::Input(3), 0) } else { Arg::Null }
    }

    fn share(&self) -> usize {
        self.rows / self.rows_of_x
    }

    /// Reads an expert for each row of the output.
    fn few(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let quantized = takes_quantized(self.dtype);
        let (source, entry) = match quantized {
            true => ("linear_few", "linear_few_id"),
            false => ("linear_float", "linear_float_id"),
        };
        let mut x = (Which::Input(1), 0);
        if quantized {
            let to = lower.scratch(quantized_bytes(self.k) * self.rows_of_x);
            quantize(lower, x, to, self.k, self.rows_of_x)?;
            x = to;
        }
        let few = Few::of(lower, self.dtype, self.k, 1, (self.n_out, false));
        let [weight, blocks_of_weight] = self.weight();
        let args = [
            ("weight", weight),
            ("n_blocks", blocks_of_weight),
            ("ids", Arg::Address(Which::Input(2), 0)),
            ("x", Arg::Address(x.0, x.1)),
            ("bias", self.bias()),
            ("y", Arg::Address(Which::Output, 0)),
            ("k", Arg::I32(self.k as i32)),
            ("n_out", Arg::I32(self.n_out as i32)),
            ("n_expert", Arg::I32(self.n_expert as i32)),
            ("rows_of_y", Arg::I32(self.rows as i32)),
            ("share", Arg::I32(self.share() as i32)),
        ];
        let grid = [self.n_out.div_ceil(few.rows), self.rows, 1];
        lower.launch(few.variant(source, entry, 1).define("BY_ID", 1), grid, few.threads, &args)
    }

    /// Reads an expert once for each tile of its rows.
    fn many(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        // Every expert, and the group of invalid experts, has at most one tile that is not full.
        let groups = self.n_expert + 1;
        let n_tiles = self.rows / SIDE + groups;
        let order = lower.scratch(size_of::<i32>() * self.rows);
        let tiles = lower.scratch(TILE * n_tiles);
        // As many parts as the threads allow, but of at least about 32 rows.
        let parts = (GROUP_THREADS / groups).clamp(1, self.rows.div_ceil(32));
        let threads = (groups * parts).next_multiple_of(64).min(GROUP_THREADS);
        let args = [
            ("ids", Arg::Address(Which::Input(2), 0)),
            ("n", Arg::I32(self.rows as i32)),
            ("n_expert", Arg::I32(self.n_expert as i32)),
            ("parts", Arg::I32(parts as i32)),
            ("side", Arg::I32(SIDE as i32)),
            ("order", Arg::Address(order.0, order.1)),
            ("tiles", Arg::Address(tiles.0, tiles.1)),
            ("n_tiles", Arg::I32(n_tiles as i32)),
        ];
        let shared = groups * (parts + 2) * size_of::<i32>();
        lower.launch_shared(Variant::new("experts", "group_rows"), [1, 1, 1], threads, shared, &args)?;
        let [weight, blocks_of_weight] = self.weight();
        let args = [
            ("weight", weight),
            ("n_blocks", blocks_of_weight),
            ("order", Arg::Address(order.0, order.1)),
            ("tiles", Arg::Address(tiles.0, tiles.1)),
            ("x", Arg::Address(Which::Input(1), 0)),
            ("bias", self.bias()),
            ("y", Arg::Address(Which::Output, 0)),
            ("k", Arg::I32(self.k as i32)),
            ("n", Arg::I32(self.n_out as i32)),
            ("share", Arg::I32(self.share() as i32)),
        ];
        let variant = many_variant("linear_many_id", self.dtype, SIDE).define("BY_ID", 1);
        let grid = [self.n_out.div_ceil(SIDE), n_tiles, 1];
        lower.launch(variant, grid, many_threads(lower, SIDE), &args)
    }
}
