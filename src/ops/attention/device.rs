//! Selects the GPU kernels of attention.
//!
//! Prompts of many tokens over caches of F16, BF16 or blocks, with heads of whole tiles, run on matrix instructions
//! (`attention_tiled`). Everything else, including caches of F32, runs token by token (`attention_split`), with the
//! keys divided into splits. So do the single tokens of many sequences ([`Attention::n_single`]): a tile processes its
//! sequences one after another, each with one of its sixteen rows in use, so that 32 sequences of 1,024 tokens took 86
//! ms a step on an H200 where 24 took 14. A batch of both needs two launches. A token with an invalid position or
//! sequence gives zeros, and a missing block counts as keys and values of zeros, since a kernel cannot fail.

use std::ops::Range;

use super::Attention;
use crate::device::constants::{ATTENTION_THREADS, COMBINE_THREADS, MAX_SPLITS, TILED_WAVES};
use crate::device::{Arg, Lower, LowerError, NamedArg, Variant, Which};
use crate::ops::reduce::optional_input;
use crate::tensor::{DType, Desc};

/// Fewer prompt tokens than this are processed one by one: a tile would be mostly empty, and too few blocks would run.
const TILED_TOKENS: usize = 32;
/// The longest head of which a tile of queries fits shared memory.
const TILED_HEAD_DIM: usize = 256;
/// Elements of the values that a tile's block sums, at most.
const TILED_VALUES: usize = 128;
/// Blocks of `attention_split` per compute unit: as many as are resident at once.
const BLOCKS_PER_UNIT: usize = 4;
/// Keys of a split at least.
const MIN_KEYS: usize = 32;
/// For tokens that fill the device without splits: the fewest keys of a split, so that its start and its partial sums
/// are cheap compared with its keys; and the most times that blocks fill the device, as even a split without keys costs
/// its start.
const MIN_KEYS_OF_MANY: usize = 512;
const ROUNDS: usize = 4;
/// Keys of a split in a deterministic plan, whatever the batch: four rounds of a block, so that one token of a typical
/// context still occupies a device. Longer contexts have larger splits, which depend on their own length only.
const MIN_KEYS_ALIKE: usize = 128;
/// Bytes of partial sums that limit the tokens per launch of a deterministic plan.
const PARTIAL_BYTES_ALIKE: usize = 32 << 20;
/// Elements of a head that a lane of `attention_split` holds per chunk, and the most chunks.
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
    /// Positions that the block table covers.
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
        if lower.is_deterministic() {
            return step.lower_alike(lower);
        }
        let in_tiles = self.tokens_in_tiles(step.n_tokens);
        let Some(dtype) = step.tiles().filter(|_| in_tiles > 0) else {
            return step.lower_split(lower, 0..step.n_tokens);
        };
        step.lower_tiled(lower, dtype, in_tiles)?;
        step.lower_split(lower, in_tiles..step.n_tokens)
    }

    /// The number of tokens at the start of the batch that run on matrix instructions, if heads and caches allow it.
    pub(super) fn tokens_in_tiles(&self, n_tokens: usize) -> usize {
        let of_prompts = n_tokens - self.n_single.min(n_tokens);
        if of_prompts < TILED_TOKENS { 0 } else { of_prompts }
    }
}

/// The division of a token's keys.
#[derive(Clone, Copy)]
struct Cut {
    /// Splits, some of which may have no keys.
    splits: usize,
    /// The keys of a split are a token's keys divided by this,
    parts: usize,
    /// but at least this many.
    min_keys: usize,
}

/// The division of heads in a block of `attention_split`: lanes that share a key, chunks of eight elements per lane,
/// query heads at once, whether rows are multiples of eight, and blocks for all heads of a token.
struct Block {
    lanes: usize,
    chunks: usize,
    heads: usize,
    eights: bool,
    rows: usize,
}

impl Step {
    /// The type of the tiles, if the kernel with matrix instructions supports the heads and caches.
    fn tiles(&self) -> Option<DType> {
        let whole = |n: usize| n.is_multiple_of(16) && n <= TILED_HEAD_DIM;
        tiles_of(self.k.dtype, self.v.dtype).filter(|_| whole(self.head_dim) && whole(self.head_dim_v))
    }

    /// The first `n_tokens` tokens, with matrix instructions.
    fn lower_tiled(&self, lower: &mut Lower<'_>, tiles_of: DType, n_tokens: usize) -> Result<(), LowerError> {
        let tiles = self.head_dim_v / 16;
        let parts =
            (1..=tiles).find(|parts| tiles.is_multiple_of(*parts) && tiles / parts <= TILED_VALUES / 16);
        let parts = parts.unwrap_or(tiles);
        let variant = Variant::new("attention_tiled", "attention_tiled")
            .define("HEAD_DIM", self.head_dim)
            .define("VALUES", self.head_dim_v / parts)
            .define("BF16", i32::from(tiles_of == DType::BF16))
            .define("K_TYPE", self.k.dtype.number())
            .define("V_TYPE", self.v.dtype.number());
        let grid = [self.n_head, n_tokens.div_ceil(16 * TILED_WAVES), parts];
        let own = vec![("out", Arg::Address(Which::Output, 0)), ("n_tokens", int(lower, n_tokens)?)];
        let args = [self.inputs(lower, 0)?, own, self.attributes(lower)?];
        lower.launch(variant, grid, TILED_WAVES * lower.target().wave as usize, &args.concat())
    }

    /// Every token on its own, with its keys divided by its own position only, so that its sums do not depend on the
    /// batch.
    fn lower_alike(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let splits = self.keys().div_ceil(MIN_KEYS_ALIKE).clamp(1, MAX_SPLITS);
        let cut = Cut { splits, parts: MAX_SPLITS, min_keys: MIN_KEYS_ALIKE };
        let bytes = self.n_head * splits * (self.head_dim_v + 2) * size_of::<f32>();
        let at_once = (PARTIAL_BYTES_ALIKE / bytes).max(1);
        let partial = self.partial(lower, at_once.min(self.n_tokens), splits);
        for first in (0..self.n_tokens).step_by(at_once) {
            let tokens = first..self.n_tokens.min(first + at_once);
            self.launch_split(lower, tokens, cut, partial)?;
        }
        Ok(())
    }

    /// These tokens, one by one.
    fn lower_split(&self, lower: &mut Lower<'_>, tokens: Range<usize>) -> Result<(), LowerError> {
        if tokens.is_empty() {
            return Ok(());
        }
        let slots = BLOCKS_PER_UNIT * lower.target().compute_units as usize;
        let cut = self.cut(slots, self.block().rows * tokens.len());
        let partial = self.partial(lower, tokens.len(), cut.splits);
        self.launch_split(lower, tokens, cut, partial)
    }

    /// The division of heads in a block of `attention_split`.
    fn block(&self) -> Block {
        let width = self.head_dim.max(self.head_dim_v);
        let lanes = width.div_ceil(LANE_ELEMENTS).next_power_of_two().clamp(4, 32);
        let chunks = width.div_ceil(LANE_ELEMENTS * lanes);
        let group = self.n_head / self.n_head_kv;
        // Limited by the registers; rows that are not multiples of eight need more.
        let eights = [self.head_dim, self.head_dim_v].iter().all(|n| n.is_multiple_of(LANE_ELEMENTS));
        let most = if eights && chunks == 1 { 8 } else { 4 };
        let heads = group.next_power_of_two().min(most / chunks.next_power_of_two()).max(1);
        Block { lanes, chunks, heads, eights, rows: self.n_head_kv * group.div_ceil(heads) }
    }

    /// Scratch memory for the partial sums of `tokens` tokens; null if keys are not divided.
    fn partial(&self, lower: &mut Lower<'_>, tokens: usize, splits: usize) -> [Arg; 2] {
        if splits == 1 {
            return [Arg::Null; 2];
        }
        let rows = tokens * self.n_head * splits;
        [rows * self.head_dim_v, rows * 2].map(|floats| {
            let (which, at) = lower.scratch(floats * size_of::<f32>());
            Arg::Address(which, at)
        })
    }

    fn launch_split(
        &self,
        lower: &mut Lower<'_>,
        tokens: Range<usize>,
        Cut { splits, parts, min_keys }: Cut,
        [partial, sums]: [Arg; 2],
    ) -> Result<(), LowerError> {
        let Block { lanes, chunks, heads, eights, rows } = self.block();
        if chunks > MAX_CHUNKS {
            let (width, most) = (self.head_dim.max(self.head_dim_v), MAX_CHUNKS * 32 * LANE_ELEMENTS);
            return Err(lower.unsupported(format!("heads of {width} elements; at most {most} are taken")));
        }
        let variant = Variant::new("attention", "attention_split")
            .define("LANES", lanes)
            .define("CHUNKS", chunks)
            .define("HEADS", heads)
            .define("EIGHTS", i32::from(eights))
            .define("K_TYPE", self.k.dtype.number())
            .define("V_TYPE", self.v.dtype.number());
        let out = Arg::Address(Which::Output, tokens.start * lower.output().strides[2]);
        let [n_splits, parts, min_keys] = [splits, parts, min_keys].map(|n| Arg::I32(n as i32));
        let own = vec![
            ("out", out),
            ("partial", partial),
            ("partial_sums", sums),
            ("splits", n_splits),
            ("parts", parts),
            ("min_keys", min_keys),
        ];
        let args = [self.inputs(lower, tokens.start)?, own, self.attributes(lower)?];
        lower.launch(variant, [tokens.len() * splits, rows, 1], ATTENTION_THREADS, &args.concat())?;
        if splits == 1 {
            return Ok(());
        }
        let head_dim_v = Arg::I32(self.head_dim_v as i32);
        let args = [
            ("partial", partial),
            ("partial_sums", sums),
            ("sinks", optional_input(lower, 6)),
            ("out", out),
            ("splits", n_splits),
            ("head_dim_v", head_dim_v),
        ];
        let variant = Variant::new("attention_combine", "attention_combine");
        lower.launch(variant, [self.n_head, tokens.len(), 1], COMBINE_THREADS, &args)
    }

    /// The most keys of a token.
    fn keys(&self) -> usize {
        self.op.window.unwrap_or(self.limit).min(self.limit)
    }

    /// The division of each token's keys. `slots` blocks fit the device at once; without splits there are `blocks`
    /// blocks.
    ///
    /// With few blocks, keys are divided until the blocks fill the device. Many blocks fill it already; their keys are
    /// still divided, into large splits, so that one long sequence among short ones does not keep a single block busy
    /// long after the others, and so that the last blocks leave little of the device idle. Partial sums stay below
    /// [`ROUNDS`] times what the device works on at once: 4 MiB for 132 units and heads of 128 with a group size of 4.
    /// With 32 key heads, 64 tokens are 2,048 blocks, which 132 units process in four rounds and 20 units in 26: their
    /// keys are not divided.
    fn cut(&self, slots: usize, blocks: usize) -> Cut {
        let few = blocks <= slots / 2;
        let (rounds, min_keys) = if few { (1, MIN_KEYS) } else { (ROUNDS, MIN_KEYS_OF_MANY) };
        let most = self.keys().div_ceil(min_keys).clamp(1, MAX_SPLITS);
        let splits = (rounds * slots / blocks).clamp(1, most);
        // With few blocks, splits are equal, except for rounding to a block's rounds.
        Cut { splits, parts: splits, min_keys: if few { 1 } else { min_keys } }
    }

    /// Arguments for the inputs, those of each token from `first` on.
    fn inputs(&self, lower: &Lower<'_>, first: usize) -> Result<Vec<NamedArg>, LowerError> {
        let table = lower.inputs().get(5).map_or([0, 0], |table| [table.shape.dim(0), table.shape.dim(1)]);
        let mut args = Vec::new();
        for (i, (name, layout)) in [("q", "q_at"), ("k", "k_at"), ("v", "v_at")].into_iter().enumerate() {
            let (which, offset) =
                (Which::Input(i as u32), if i == 0 { first * lower.inputs()[0].strides[2] } else { 0 });
            args.extend([(name, Arg::Address(which, offset)), (layout, Arg::Layout(which))]);
        }
        for (i, name) in [(3, "positions"), (4, "sequences")] {
            args.push((name, Arg::Address(Which::Input(i), first * size_of::<i32>())));
        }
        args.push(("block_table", Arg::Address(Which::Input(5), 0)));
        for (name, n) in [("n_blocks", table[0]), ("n_seq", table[1]), ("limit", self.limit)] {
            args.push((name, int(lower, n)?));
        }
        args.push(("sinks", optional_input(lower, 6)));
        Ok(args)
    }

    /// Arguments for the attributes.
    fn attributes(&self, lower: &Lower<'_>) -> Result<Vec<NamedArg>, LowerError> {
        let op = &self.op;
        // A window that covers all positions has no effect.
        let window = op.window.filter(|&window| window < self.limit).unwrap_or(0);
        Ok(vec![
            ("block_size", int(lower, op.block_size)?),
            ("cache_blocks", int(lower, self.k.shape.dim(2) / op.block_size)?),
            ("window", int(lower, window)?),
            ("scale", Arg::F32(op.scale)),
            ("softcap", Arg::F32(op.softcap.unwrap_or(0.0))),
        ])
    }
}

/// The type of tiles for caches of these types, if supported: blocks become F16, which holds their values to 11 bits.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Command, Launch, Target};

    /// The commands and the bytes of scratch memory, for 32 heads of 128, `n_head_kv` key heads, and caches of F16.
    fn lowered(
        [n_tokens, n_single, n_head_kv, limit]: [usize; 4],
        units: u32,
        deterministic: bool,
    ) -> (Vec<Launch>, usize) {
        let target = Target { compute_units: units, ..Target::named("sm_90").unwrap() };
        let desc = |dtype, sizes: &[usize]| {
            Desc::contiguous(dtype, crate::tensor::Shape::new(sizes).unwrap()).unwrap()
        };
        let row = desc(DType::I32, &[n_tokens]);
        let cache = desc(DType::F16, &[128, n_head_kv, 64 * limit]);
        let table = desc(DType::I32, &[limit / 32, 64]);
        let inputs = [desc(DType::F32, &[128, 32, n_tokens]), cache, cache, row, row, table];
        let op = Attention { scale: 0.1, window: None, softcap: None, block_size: 32, n_single };
        let output = crate::graph::Operator::infer(&op, &inputs).unwrap();
        let mut lower = Lower::new("attention", &target, &inputs, &output, &[]).deterministic(deterministic);
        op.lower(&mut lower).unwrap();
        let (commands, scratch) = lower.finish();
        let launch = |command| match command {
            Command::Launch(launch) => launch,
            other => panic!("{other:?}"),
        };
        (commands.into_iter().map(launch).collect(), scratch)
    }

    /// An integer argument of a launch.
    fn int_of(launch: &Launch, name: &str) -> usize {
        match launch.args.iter().find(|(found, _)| found == name) {
            Some((_, Arg::I32(n))) => *n as usize,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn splits_of(launch: &Launch) -> usize {
        int_of(launch, "splits")
    }

    /// The name and tokens of each launch for contexts of 1,024 tokens.
    fn launches(n_tokens: usize, n_single: usize) -> Vec<(String, usize)> {
        let (launches, _) = lowered([n_tokens, n_single, 8, 1024], 132, false);
        let splits =
            launches.iter().find(|launch| launch.variant.entry == "attention_combine").map_or(1, splits_of);
        let described = launches.iter().map(|launch| {
            let tokens = match &*launch.variant.entry {
                "attention_tiled" => int_of(launch, "n_tokens"),
                "attention_combine" => launch.grid[1] as usize,
                _ => launch.grid[0] as usize / splits,
            };
            (launch.variant.entry.to_string(), tokens)
        });
        described.collect()
    }

    #[test]
    fn single_tokens_never_take_tiles() {
        let named = |rows: &[(&str, usize)]| -> Vec<(String, usize)> {
            rows.iter().map(|&(name, tokens)| (name.to_string(), tokens)).collect()
        };
        let (tiled, split, combine) = ("attention_tiled", "attention_split", "attention_combine");
        assert_eq!(launches(512, 0), named(&[(tiled, 512)]));
        assert_eq!(launches(64, 64), named(&[(split, 64), (combine, 64)]));
        assert_eq!(launches(544, 32), named(&[(tiled, 512), (split, 32), (combine, 32)]));
        // A prompt that is too short for tiles is processed with the single tokens.
        assert_eq!(launches(63, 32), named(&[(split, 63), (combine, 63)]));
        assert_eq!(launches(64, 32), named(&[(tiled, 32), (split, 32), (combine, 32)]));
    }

    #[test]
    fn splits_fill_the_device_and_stay_few() {
        let splits = |n_tokens, n_head_kv, units| {
            let (launches, _) = lowered([n_tokens, n_tokens, n_head_kv, 1024], units, false);
            launches.get(1).map_or(1, splits_of)
        };
        // One token: as many blocks as the device holds, of at least 32 keys.
        assert_eq!((splits(1, 8, 132), splits(1, 8, 20)), (32, 10));
        assert_eq!((splits(32, 8, 132), splits(32, 8, 20)), (2, 1));
        // Many tokens: splits of at least 512 keys, while blocks are at most four times what the device holds.
        assert_eq!((splits(64, 8, 132), splits(64, 8, 20)), (2, 1));
        assert_eq!((splits(64, 32, 132), splits(64, 32, 20)), (1, 1));
    }

    #[test]
    fn deterministic_splits_depend_on_no_other_token() {
        for (limit, wanted) in [(128, 1), (1024, 8), (4096, 32), (65_536, 128)] {
            for n_tokens in [1, 8, 40, 700] {
                let (launches, scratch) = lowered([n_tokens, n_tokens / 2, 8, limit], 132, true);
                assert!(scratch <= PARTIAL_BYTES_ALIKE + 1024, "{scratch} bytes");
                let each = if wanted == 1 { 1 } else { 2 };
                let tokens: usize =
                    launches.chunks(each).map(|launches| launches[0].grid[0] as usize / wanted).sum();
                assert_eq!(tokens, n_tokens);
                for launches in launches.chunks(each) {
                    assert_eq!(launches[0].variant.entry, "attention_split");
                    assert!(launches.get(1).is_none_or(|combine| splits_of(combine) == wanted));
                }
            }
        }
    }
}
