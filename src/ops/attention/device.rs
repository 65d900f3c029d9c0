//! Which kernels attend on a GPU.
//!
//! Many tokens over caches of F16, BF16 or blocks, with heads of whole tiles, run on matrix instructions
//! (`attention_tiled`). Everything else, caches of F32 too, runs token by token (`attention_split`), the keys
//! cut into splits where there are too few tokens to fill the device. A token whose position or sequence is not
//! there gives zeros, and a block that is not there counts as keys and values of zeros: a kernel cannot fail.

use super::Attention;
use crate::hip::{Arg, Lower, LowerError, Variant, Which};
use crate::ops::reduce::optional_input;
use crate::tensor::{DType, Desc};

/// Fewer tokens are attended to one by one: a tile would be mostly empty, and too few blocks would run.
const TILED_TOKENS: usize = 32;
/// The longest head that a tile of queries in shared memory holds.
const TILED_HEAD_DIM: usize = 256;
/// Waves of a tile's block, 16 tokens each, and elements of the values that it sums, at most.
const TILED_WAVES: usize = 4;
const TILED_VALUES: usize = 128;
/// Blocks of `attention_split` for each compute unit: as many as fit at once.
const BLOCKS_PER_UNIT: usize = 4;
/// Splits at most, as `attention_combine.hip` has it, and keys of a split at least.
const MAX_SPLITS: usize = 128;
const MIN_KEYS: usize = 32;
/// Elements of a head that a lane of `attention_split` holds at once, and how often at most.
const LANE_ELEMENTS: usize = 8;
const MAX_CHUNKS: usize = 8;

/// The sizes of a step.
struct Step {
    op: Attention,
    k: Desc,
    v: Desc,
    head_dim: usize,
    head_dim_v: usize,
    n_head: usize,
    n_head_kv: usize,
    n_tokens: usize,
    /// Positions that the block table has room for.
    limit: usize,
}

impl Attention {
    pub(super) fn lower(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let &[q, k, v, _, _, table, ..] = lower.inputs() else { return Ok(()) };
        if lower.output().shape.elements() == 0 {
            return Ok(());
        }
        let step = Step {
            op: self.clone(),
            k,
            v,
            head_dim: q.shape.dim(0),
            head_dim_v: v.shape.dim(0),
            n_head: q.shape.dim(1),
            n_head_kv: k.shape.dim(1),
            n_tokens: q.shape.dim(2),
            limit: table.shape.dim(0).saturating_mul(self.block_size).min(i32::MAX as usize),
        };
        match step.tiles() {
            Some(dtype) => step.lower_tiled(lower, dtype),
            None => step.lower_split(lower),
        }
    }
}

impl Step {
    /// The type of the tiles, if the kernel of matrix instructions takes the step.
    fn tiles(&self) -> Option<DType> {
        let whole = |n: usize| n.is_multiple_of(16) && n <= TILED_HEAD_DIM;
        let many = self.n_tokens >= TILED_TOKENS && whole(self.head_dim) && whole(self.head_dim_v);
        tiles_of(self.k.dtype, self.v.dtype).filter(|_| many)
    }

    fn lower_tiled(&self, lower: &mut Lower<'_>, tiles_of: DType) -> Result<(), LowerError> {
        let tiles = self.head_dim_v / 16;
        let parts =
            (1..=tiles).find(|parts| tiles.is_multiple_of(*parts) && tiles / parts <= TILED_VALUES / 16);
        let parts = parts.unwrap_or(tiles);
        let variant = Variant::new("attention_tiled", "attention_tiled")
            .define("HEAD_DIM", self.head_dim)
            .define("VALUES", self.head_dim_v / parts)
            .define("BF16", i32::from(tiles_of == DType::BF16))
            .define("K_TYPE", self.k.dtype as i32)
            .define("V_TYPE", self.v.dtype as i32);
        let grid = [self.n_head, self.n_tokens.div_ceil(16 * TILED_WAVES), parts];
        let args = [self.inputs(lower)?, vec![Arg::Address(Which::Output, 0)], self.attributes(lower)?];
        lower.launch(variant, grid, TILED_WAVES * lower.target().wave as usize, &args.concat())
    }

    fn lower_split(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let width = self.head_dim.max(self.head_dim_v);
        let lanes = width.div_ceil(LANE_ELEMENTS).next_power_of_two().clamp(4, 32);
        let chunks = width.div_ceil(LANE_ELEMENTS * lanes);
        if chunks > MAX_CHUNKS {
            let most = MAX_CHUNKS * 32 * LANE_ELEMENTS;
            return Err(lower.unsupported(format!("heads of {width} elements; at most {most} are taken")));
        }
        let group = self.n_head / self.n_head_kv;
        // What the registers hold. Rows with a short end take more of them.
        let eights = [self.head_dim, self.head_dim_v].iter().all(|n| n.is_multiple_of(LANE_ELEMENTS));
        let most = if eights && chunks == 1 { 8 } else { 4 };
        let heads = group.next_power_of_two().min(most / chunks.next_power_of_two()).max(1);
        let rows = self.n_head_kv * group.div_ceil(heads);
        let splits = self.splits(lower.target().compute_units as usize, rows);

        let variant = Variant::new("attention", "attention_split")
            .define("LANES", lanes)
            .define("CHUNKS", chunks)
            .define("HEADS", heads)
            .define("EIGHTS", i32::from(eights))
            .define("K_TYPE", self.k.dtype as i32)
            .define("V_TYPE", self.v.dtype as i32);
        let out = Arg::Address(Which::Output, 0);
        let partial_rows = self.n_tokens * self.n_head * splits;
        let (partial, sums) = if splits == 1 {
            (Arg::I64(0), Arg::I64(0))
        } else {
            let mut scratch = |floats: usize| {
                let (which, at) = lower.scratch(floats * size_of::<f32>());
                Arg::Address(which, at)
            };
            (scratch(partial_rows * self.head_dim_v), scratch(partial_rows * 2))
        };
        let args =
            [self.inputs(lower)?, vec![out, partial, sums, Arg::I32(splits as i32)], self.attributes(lower)?];
        lower.launch(variant, [self.n_tokens * splits, rows, 1], 128, &args.concat())?;
        if splits == 1 {
            return Ok(());
        }
        let args = [
            partial,
            sums,
            optional_input(lower, 6),
            out,
            Arg::I32(splits as i32),
            Arg::I32(self.head_dim_v as i32),
        ];
        let variant = Variant::new("attention_combine", "attention_combine");
        lower.launch(variant, [self.n_head, self.n_tokens, 1], 256, &args)
    }

    /// Into how many pieces the keys of a token are cut, so that the device is full.
    fn splits(&self, compute_units: usize, rows: usize) -> usize {
        let keys = self.op.window.unwrap_or(self.limit).min(self.limit);
        let wanted = BLOCKS_PER_UNIT * compute_units / (rows * self.n_tokens);
        wanted.clamp(1, keys.div_ceil(MIN_KEYS).clamp(1, MAX_SPLITS))
    }

    /// Arguments for the inputs.
    fn inputs(&self, lower: &Lower<'_>) -> Result<Vec<Arg>, LowerError> {
        let table = lower.inputs().get(5).map_or([0, 0], |table| [table.shape.dim(0), table.shape.dim(1)]);
        let mut args = Vec::new();
        for i in 0..3 {
            args.extend([Arg::Address(Which::Input(i), 0), Arg::Layout(Which::Input(i))]);
        }
        args.extend([3, 4, 5].map(|i| Arg::Address(Which::Input(i), 0)));
        for n in [table[0], table[1], self.limit] {
            args.push(int(lower, n)?);
        }
        args.push(optional_input(lower, 6));
        Ok(args)
    }

    /// Arguments for the attributes.
    fn attributes(&self, lower: &Lower<'_>) -> Result<Vec<Arg>, LowerError> {
        let op = &self.op;
        // A window longer than all positions is none.
        let window = op.window.filter(|&window| window < self.limit).unwrap_or(0);
        Ok(vec![
            int(lower, op.block_size)?,
            int(lower, self.k.shape.dim(2) / op.block_size)?,
            int(lower, window)?,
            Arg::F32(op.scale),
            Arg::F32(op.softcap.unwrap_or(0.0)),
        ])
    }
}

/// The type of tiles that caches of these types are put into, if there is one: blocks become F16, which holds their
/// values to 11 bits.
pub(super) fn tiles_of(k: DType, v: DType) -> Option<DType> {
    let in_halves = |dtype| matches!(dtype, DType::F16 | DType::Q8_0 | DType::Q4_0);
    match (k, v) {
        (DType::BF16, DType::BF16) => Some(DType::BF16),
        (k, v) if in_halves(k) && in_halves(v) => Some(DType::F16),
        _ => None,
    }
}

fn int(lower: &Lower<'_>, n: usize) -> Result<Arg, LowerError> {
    let too_large = || lower.unsupported(format!("{n} is more than the kernels count to, {}", i32::MAX));
    Ok(Arg::I32(i32::try_from(n).map_err(|_| too_large())?))
}
