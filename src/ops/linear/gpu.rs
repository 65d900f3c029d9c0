//! Selects the GPU kernels of products.
//!
//! *Few tokens* are bound by reading the weight. The codes of blocks are small integers: activations are quantized to
//! eight bits (`kernels/quantize.hip`) and multiplied as integers (`kernels/linear_few.hip`); plain weights are
//! multiplied in F32 (`kernels/linear_float.hip`). *Many tokens* are bound by multiplying: the BLAS library multiplies
//! F16 (BF16 and F32 for weights of these types) after a pass that decodes the weight; without that library, our own
//! kernel does both (`kernels/linear_many.hip`). A deterministic plan uses the kernels of few tokens for any number of
//! them: there each row has its own sums, in an order that depends only on `k`. A single row, the usual case of
//! decoding, costs no more than in other plans.

use crate::device::{Arg, Command, Gemm, Lower, LowerError, Variant, Which};
use crate::ops::UnaryKind;
use crate::tensor::DType;
use crate::tensor::blocks::vectors;

/// The most tokens for which reading weights takes longer than multiplying.
pub(in crate::ops) const FEW_TOKENS: usize = 8;

/// Threads of a block of the elementwise kernels.
const THREADS: usize = 256;

/// A tensor of the step and a byte offset in it.
pub(in crate::ops) type Location = (Which, usize);

/// True if products of few tokens with weights of this type use integers, as for block formats.
pub(in crate::ops) fn takes_quantized(dtype: DType) -> bool {
    vectors(dtype).is_some()
}

/// Bytes of a quantized row of `k` activations: a byte each, 8 bytes for 32, and up to whole loads of 16.
pub(in crate::ops) fn quantized_bytes(k: usize) -> usize {
    (k + k / 4).next_multiple_of(16)
}

/// A product, or several of the same `x`, during lowering.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Products<'a> {
    /// The weights' format.
    pub dtype: DType,
    /// Elements of a row of `x` and of each weight.
    pub k: usize,
    /// Rows of `x`.
    pub tokens: usize,
    /// One to three weights and their rows. Results are concatenated in a row of the output.
    pub weights: &'a [(Location, usize)],
    /// With two weights of the same size, the output is `gate(first) · second`.
    pub gate: Option<UnaryKind>,
    /// The bias, if there is one.
    pub bias: Option<Location>,
    /// The residual, with the output's length.
    pub residual: Option<Location>,
}

/// Rows of a weight per block, and pieces whose loads are in flight together, for `bucket` tokens.
///
/// Measured on an H200 (one token, rows of 4096 and 14,336); elsewhere a guess.
fn shape(dtype: DType, bucket: usize, n: usize, gated: bool) -> (usize, usize) {
    let (rows, unroll): (usize, usize) = match dtype {
        DType::Q8_0 => (1, 1),
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::IQ4_NL | DType::IQ4_XS => (2, 2),
        DType::Q4_K | DType::Q5_K if n >= 8192 => (4, 1),
        _ => (2, 1),
    };
    // Several tokens share the unpacked weights, and need a sum for each row; a gate doubles the rows.
    let rows = if bucket > 1 { 2 } else { rows };
    (if gated { rows.div_ceil(2) } else { rows }, if bucket > 2 { 1 } else { unroll })
}

/// The launch shape of a kernel that reads weights once.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Few {
    dtype: DType,
    /// Rows of a weight per block.
    pub rows: usize,
    waves: usize,
    unroll: usize,
    /// Threads of a block.
    pub threads: usize,
}

impl Few {
    /// For weights of `n` rows of `k`, and `bucket` rows of `x` at a time.
    pub fn of(lower: &Lower<'_>, dtype: DType, k: usize, bucket: usize, (n, gated): (usize, bool)) -> Few {
        let (rows, unroll) = shape(dtype, bucket, n, gated);
        // Every lane has something to load, but not so much that there are few waves.
        let wave = lower.target().wave as usize;
        let (pieces, most) = match vectors(dtype) {
            Some(vectors) => (k / (16 * vectors), 4),
            None => (k.div_ceil(16), 8),
        };
        let waves = (pieces / wave).clamp(1, most * 32 / wave);
        Few { dtype, rows, waves, unroll, threads: waves * wave }
    }

    /// The kernel with its constants.
    pub fn variant(&self, source: &'static str, entry: &'static str, bucket: usize) -> Variant {
        Variant::new(source, entry)
            .define("FORMAT", self.dtype)
            .define("TOKENS", bucket)
            .define("ROWS", self.rows)
            .define("WAVES", self.waves)
            .define("UNROLL", self.unroll)
    }
}

fn address((which, offset): Location) -> Arg {
    Arg::Address(which, offset)
}

fn address_or_none(place: Option<Location>) -> Arg {
    place.map_or(Arg::Null, address)
}

/// The number of blocks of a tensor of `n` elements.
pub(in crate::ops) fn n_blocks(dtype: DType, n: usize) -> Arg {
    Arg::I64((n / dtype.block_elements()) as i64)
}

/// Quantizes rows of F32 to eight bits, as `kernels/quantize.h` describes; `k` is a multiple of 32.
pub(in crate::ops) fn quantize(
    lower: &mut Lower<'_>,
    x: Location,
    to: Location,
    k: usize,
    rows: usize,
) -> Result<(), LowerError> {
    let blocks_of_row = k.div_ceil(4 * THREADS);
    let args = [
        ("x", address(x)),
        ("out", address(to)),
        ("k", Arg::I32(k as i32)),
        ("blocks_of_row", Arg::I32(blocks_of_row as i32)),
    ];
    lower.launch(Variant::new("quantize", "quantize"), [blocks_of_row * rows, 1, 1], THREADS, &args)
}

/// Decodes `n` elements of any format to F32, F16 or BF16. With `clamp`, finite values too large for F16 become its
/// largest number.
fn dequantize(
    lower: &mut Lower<'_>,
    (dtype, from): (DType, Location),
    (to_dtype, to): (DType, Location),
    n: usize,
    clamp: bool,
) -> Result<(), LowerError> {
    let variant = Variant::new("dequantize", "dequantize")
        .define("FORMAT", dtype)
        .define("TO", to_dtype.number())
        .define("CLAMP", u8::from(clamp));
    let args = [
        ("from", address(from)),
        ("n_blocks", n_blocks(dtype, n)),
        ("to", address(to)),
        ("n", Arg::I64(n as i64)),
    ];
    lower.launch(variant, [n.div_ceil(8 * THREADS), 1, 1], THREADS, &args)
}

/// A kernel of `kernels/linear_many.hip` whose blocks compute `side` by `side` elements of the output.
pub(in crate::ops) fn many_variant(entry: &'static str, dtype: DType, side: usize) -> Variant {
    Variant::new("linear_many", entry)
        .define("FORMAT", dtype)
        .define("SIDE", side)
        .define("BF16_OPERANDS", u8::from(dtype == DType::BF16))
}

/// Threads per block of [`many_variant`]'s kernels.
pub(in crate::ops) fn many_threads(lower: &Lower<'_>, side: usize) -> usize {
    side / 16 * lower.target().wave as usize
}

impl Products<'_> {
    /// Rows of all weights.
    fn rows(&self) -> usize {
        self.weights.iter().map(|(_, n)| n).sum()
    }

    /// Elements of a row of the output.
    fn n_out(&self) -> usize {
        if self.gate.is_some() { self.rows() / 2 } else { self.rows() }
    }

    /// Lowers the product with `x` in F32.
    pub fn of_floats(&self, lower: &mut Lower<'_>, x: Location) -> Result<(), LowerError> {
        // The kernels of few tokens add each row's products in their own order, for any number of rows.
        if self.tokens <= FEW_TOKENS || lower.is_deterministic() {
            if !takes_quantized(self.dtype) {
                return self.few("linear_float", lower, x);
            }
            let quantized = lower.scratch(quantized_bytes(self.k) * self.tokens);
            quantize(lower, x, quantized, self.k, self.tokens)?;
            return self.of_quantized(lower, quantized);
        }
        let [(weight, _)] = *self.weights else {
            return Err(lower
                .unsupported(format!("several products of more than {FEW_TOKENS} rows of x in one step")));
        };
        match (lower.target().blas, self.dtype) {
            (true, _) => self.blas(lower, weight, x),
            (false, DType::F32) => self.few("linear_float", lower, x),
            (false, _) => self.many(lower, weight, x),
        }
    }

    /// Lowers the product with `x` quantized to eight bits; only for formats with integer products.
    pub fn of_quantized(&self, lower: &mut Lower<'_>, x: Location) -> Result<(), LowerError> {
        self.few("linear_few", lower, x)
    }

    /// Reads each weight once for every [`FEW_TOKENS`] tokens.
    fn few(&self, kernel: &'static str, lower: &mut Lower<'_>, x: Location) -> Result<(), LowerError> {
        let bucket = self.tokens.next_power_of_two().min(FEW_TOKENS);
        let few = Few::of(lower, self.dtype, self.k, bucket, (self.rows(), self.gate.is_some()));
        let rows = |i: usize| self.weight(i).map_or(0, |(_, n)| n);
        let mut args = Vec::new();
        for (i, name) in ["w0", "w1", "w2"].into_iter().enumerate() {
            args.push((name, address_or_none(self.weight(i).map(|(at, _)| at))));
        }
        for (i, name) in ["n_blocks0", "n_blocks1", "n_blocks2"].into_iter().enumerate() {
            args.push((name, n_blocks(self.dtype, rows(i) * self.k)));
        }
        for (i, name) in ["n0", "n1", "n2"].into_iter().enumerate() {
            args.push((name, Arg::I32(rows(i) as i32)));
        }
        args.extend([
            ("x", address(x)),
            ("bias", address_or_none(self.bias)),
            ("residual", address_or_none(self.residual)),
            ("y", Arg::Address(Which::Output, 0)),
            ("k", Arg::I32(self.k as i32)),
            ("n_out", Arg::I32(self.n_out() as i32)),
            ("tokens", Arg::I32(self.tokens as i32)),
            ("activation_kind", Arg::I32(self.gate.map_or(0, UnaryKind::number))),
        ]);
        let taken = if self.gate.is_some() { &self.weights[..1] } else { self.weights };
        let blocks = taken.iter().map(|(_, n)| n.div_ceil(few.rows)).sum();
        let variant = few.variant(kernel, kernel, bucket).define("GATED", u8::from(self.gate.is_some()));
        lower.launch(variant, [blocks, self.tokens.div_ceil(bucket), 1], few.threads, &args)
    }

    fn weight(&self, i: usize) -> Option<(Location, usize)> {
        self.weights.get(i).copied()
    }

    /// The product with the BLAS library.
    fn blas(&self, lower: &mut Lower<'_>, weight: Location, x: Location) -> Result<(), LowerError> {
        let (k, n, tokens) = (self.k, self.n_out(), self.tokens);
        let dtype = match self.dtype {
            DType::F32 | DType::BF16 => self.dtype,
            _ => DType::F16,
        };
        let b = if self.dtype == dtype {
            weight
        } else {
            let values = lower.scratch(2 * k * n);
            dequantize(lower, (self.dtype, weight), (dtype, values), k * n, false)?;
            values
        };
        let a = if dtype == DType::F32 {
            x
        } else {
            let halves = lower.scratch(2 * k * tokens);
            dequantize(lower, (DType::F32, x), (dtype, halves), k * tokens, dtype == DType::F16)?;
            halves
        };
        let output = (Which::Output, 0);
        if let Some(bias) = self.bias {
            let args = [
                ("bias", address(bias)),
                ("residual", address_or_none(self.residual)),
                ("y", address(output)),
                ("n", Arg::I32(n as i32)),
                ("elements", Arg::I64((n * tokens) as i64)),
            ];
            let blocks = (n * tokens).div_ceil(THREADS);
            lower.launch(Variant::new("bias", "bias_rows"), [blocks, 1, 1], THREADS, &args)?;
        } else if let Some(residual) = self.residual {
            lower.command(Command::Copy { from: residual, to: output, bytes: 4 * n * tokens });
        }
        let accumulate = self.bias.is_some() || self.residual.is_some();
        lower.command(Command::Gemm(Gemm { m: tokens, n, k, dtype, a, b, c: output, accumulate }));
        Ok(())
    }

    /// The product with our own kernel.
    fn many(&self, lower: &mut Lower<'_>, weight: Location, x: Location) -> Result<(), LowerError> {
        let (k, n, tokens) = (self.k, self.n_out(), self.tokens);
        // The larger side only if there is still a block for every compute unit.
        let blocks = |side: usize| [n.div_ceil(side), tokens.div_ceil(side), 1];
        let fills = blocks(128).iter().product::<usize>() >= lower.target().compute_units as usize;
        let side = if fills { 128 } else { 64 };
        let variant = many_variant("linear_many", self.dtype, side);
        let args = [
            ("weight", address(weight)),
            ("n_blocks", n_blocks(self.dtype, k * n)),
            ("x", address(x)),
            ("bias", address_or_none(self.bias)),
            ("residual", address_or_none(self.residual)),
            ("y", Arg::Address(Which::Output, 0)),
            ("k", Arg::I32(k as i32)),
            ("n", Arg::I32(n as i32)),
            ("tokens", Arg::I32(tokens as i32)),
        ];
        lower.launch(variant, blocks(side), many_threads(lower, side), &args)
    }
}
