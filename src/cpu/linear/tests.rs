//! Products of every format: the same bits on every instruction set, and close to exact arithmetic.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::format::{Format, Unpacked};
use super::*;
use crate::cpu::activations::{self, CHUNK};
use crate::tensor::blocks::{self, f16_field};

/// A generator of reproducible bytes (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform between -1 and 1.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Rows of random blocks, redrawn until their values have ordinary sizes.
fn weights(dtype: DType, k: usize, rows: usize, random: &mut Random) -> Vec<u8> {
    let mut out = vec![0; dtype.row_bytes(k).unwrap() * rows];
    let mut values = vec![0f32; dtype.block_elements()];
    for block in out.chunks_mut(dtype.block_bytes()) {
        loop {
            block.fill_with(|| random.next() as u8);
            blocks::dequantize(dtype, block, &mut values).unwrap();
            // `f32::max` would skip NaN.
            let largest = values.iter().fold(0f32, |m, v| if v.abs() <= m { m } else { v.abs() });
            if (1e-3..8.0).contains(&largest) {
                break;
            }
        }
    }
    out
}

struct Case {
    dtype: DType,
    k: usize,
    n_out: usize,
    tokens: usize,
    kernel: ProductKernel,
    seed: u64,
    weight: Vec<u8>,
    x: Vec<f32>,
    bias: Option<Vec<f32>>,
    residual: Option<Vec<f32>>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { dtype, k, n_out, tokens, kernel, seed, .. } = self;
        write!(f, "Case::new(DType::{dtype:?}, ({k}, {n_out}, {tokens}), ProductKernel::{kernel:?}, {seed})")
    }
}

impl Case {
    fn new(
        dtype: DType,
        (k, n_out, tokens): (usize, usize, usize),
        kernel: ProductKernel,
        seed: u64,
    ) -> Case {
        let mut random = Random(seed);
        let mut values = |n: usize| (0..n).map(|_| random.value()).collect::<Vec<f32>>();
        let x = values(tokens * k);
        let bias = (seed & 1 != 0).then(|| values(n_out));
        let residual = (seed & 2 != 0).then(|| values(n_out * tokens));
        // One extra byte in front, as rows may start at any address.
        let mut weight = vec![0];
        weight.extend(weights(dtype, k, n_out, &mut random));
        Case { dtype, k, n_out, tokens, kernel, seed, weight, x, bias, residual }
    }

    fn run(&self, isa: Isa, threads: usize) -> Vec<f32> {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        // The gap between rows of the result must not be written.
        let stride = self.n_out + 1;
        let mut y = vec![f32::MAX; self.tokens * stride];
        let mut args = LinearArgs {
            dtype: self.dtype,
            weight: &self.weight[1..],
            k: self.k,
            n_out: self.n_out,
            tokens: self.tokens,
            kernel: self.kernel,
            x: Rows::new(&self.x, self.k),
            y: RowsMut::new(&mut y, stride),
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref().map(|values| Rows::new(values, self.n_out)),
        };
        linear_on(&pool, isa, &mut args).unwrap();
        y
    }
}

/// Both kernels take any number of tokens.
const KERNELS: [ProductKernel; 2] = [ProductKernel::Rows, ProductKernel::Panels];

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

fn real_types() -> Vec<DType> {
    DType::all().filter(|dtype| dtype.is_float()).collect()
}

fn cases() -> impl Strategy<Value = Case> {
    let dtype = prop::sample::select(real_types());
    let tokens = prop_oneof![1usize..=FEW_TOKENS, FEW_TOKENS + 1..28];
    let kernel = prop::sample::select(&KERNELS);
    let sizes = (1usize..4, 1usize..40, tokens);
    (dtype, sizes, kernel, any::<u64>()).prop_map(|(dtype, (blocks, n_out, tokens), kernel, seed)| {
        let k = match dtype.block_elements() {
            1 => blocks * 100 + seed as usize % 77,
            elements @ ..256 => blocks * 5 * elements,
            elements => blocks * elements,
        };
        Case::new(dtype, (k, n_out, tokens), kernel, seed)
    })
}

/// `|scale·(q - offset)| + |min|` of each weight of a row of an integer format, after checking the weights' values.
fn sizes_of_terms<F: Format>(row: &[u8], values: &[f32]) -> Vec<f64> {
    let mut sizes = Vec::new();
    let mut unpacked = Unpacked::ZERO;
    for (chunk, values) in values.chunks(CHUNK).enumerate() {
        // SAFETY: the row has all its bytes.
        let blocks = unsafe { plain::chunk_of::<F>(row.as_ptr(), row.len(), chunk) };
        F::unpack(&blocks, &mut unpacked, f16_field);
        assert!(unpacked.q.iter().all(|&q| usize::from(q) <= F::CODES), "{} has larger codes", F::DTYPE);
        for (i, value) in values.iter().enumerate() {
            let sub = if F::FINE { i / 16 } else { i / 32 };
            let product = f64::from(unpacked.scale[sub]) * (f64::from(unpacked.q[i]) - f64::from(F::OFFSET));
            let min = f64::from(unpacked.min[sub]);
            let size = product.abs() + min.abs();
            // Dequantization rounds at most three times.
            assert!((product - min - f64::from(*value)).abs() <= 3.0 * ROUNDING * size, "{} {i}", F::DTYPE);
            sizes.push(size);
        }
    }
    sizes
}

/// The largest relative error of one rounded operation on f32.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

impl Case {
    /// The products in f64, bias and residual included, and the allowed error of each.
    ///
    /// A term of a sum is rounded when it is computed (at most 3 times, and as often when the reference's weights were
    /// dequantized) and at each later addition. Those are at most `k/16 + 4` in the lanes of rows; in panels, 3 for
    /// each 32 weights of integer formats, and 256 + k/256 for the others. Bias and residual add 2. So `k/8 + 270`
    /// roundings bound the error of the sum, each 2^-24 of the sum of the terms' sizes.
    fn reference(&self) -> Vec<Vec<(f64, f64)>> {
        let row_bytes = self.dtype.row_bytes(self.k).unwrap();
        let rows: Vec<(Vec<f32>, Vec<f64>)> = self.weight[1..]
            .chunks(row_bytes)
            .map(|row| {
                let mut values = vec![0f32; self.k];
                blocks::dequantize(self.dtype, row, &mut values).unwrap();
                macro_rules! sizes {
                    ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
                        match self.dtype {
                            $(DType::$name => sizes_of_terms::<blocks::$block>(row, &values),)*
                            _ => values.iter().map(|value| f64::from(value.abs())).collect(),
                        }
                    };
                }
                let sizes = format::for_every_format!(sizes);
                (values, sizes)
            })
            .collect();
        let x = self.x.chunks(self.k).map(|x| match format::is_integer(self.dtype) {
            true => activations::tests::round_trip(x),
            false => x.iter().map(|&x| f64::from(x)).collect(),
        });
        let roundings = (self.k / 8 + 270) as f64;
        x.enumerate()
            .map(|(token, x)| {
                let rows = rows.iter().enumerate();
                rows.map(|(row, (values, sizes))| {
                    let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
                    let residual = self.residual.as_ref();
                    let residual = residual.map_or(0.0, |values| f64::from(values[token * self.n_out + row]));
                    let dot: f64 = values.iter().zip(&x).map(|(&w, &x)| f64::from(w) * x).sum();
                    let size: f64 = sizes.iter().zip(&x).map(|(&w, &x)| w * x.abs()).sum();
                    let size = size + bias.abs() + residual.abs();
                    (dot + bias + residual, roundings * ROUNDING * size)
                })
                .collect()
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_isa_and_thread_count_gives_the_same_bits(case in cases()) {
        let expected = bits(&case.run(Isa::Plain, 1));
        for isa in Isa::available() {
            for threads in [1, 3] {
                prop_assert_eq!(&bits(&case.run(isa, threads)), &expected, "{} {} threads {}", case.dtype, isa, threads);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_token_alone_gives_the_same_bits(case in cases(), first in any::<prop::sample::Index>(), count in 1usize..12) {
        let all = bits(&case.run(Isa::Plain, 1));
        let first = first.index(case.tokens);
        let tokens = first..case.tokens.min(first + count);
        let rows = |values: &[f32], n: usize| values[tokens.start * n..tokens.end * n].to_vec();
        let part = Case {
            tokens: tokens.len(),
            x: rows(&case.x, case.k),
            residual: case.residual.as_deref().map(|residual| rows(residual, case.n_out)),
            weight: case.weight.clone(),
            bias: case.bias.clone(),
            ..case
        };
        let stride = case.n_out + 1;
        for isa in Isa::available() {
            let found = bits(&part.run(isa, 2));
            prop_assert_eq!(&found[..], &all[tokens.start * stride..tokens.end * stride], "{}", isa);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn results_are_close_to_exact(case in cases()) {
        let y = case.run(Isa::Plain, 2);
        for (token, (y, expected)) in y.chunks(case.n_out + 1).zip(case.reference()).enumerate() {
            prop_assert_eq!(y.get(case.n_out).copied().unwrap_or(f32::MAX), f32::MAX, "a gap was written");
            for (row, (y, (expected, tolerance))) in y.iter().zip(expected).enumerate() {
                let error = (f64::from(*y) - expected).abs();
                prop_assert!(error <= tolerance, "[{token}][{row}]: {y} is {error} off {expected}, more than {tolerance}");
            }
        }
    }
}

#[test]
fn every_format_matches_the_reference_in_both_kernels() {
    for (dtype, kernel) in real_types().into_iter().flat_map(|dtype| KERNELS.map(|kernel| (dtype, kernel))) {
        for tokens in [1, 3, 11] {
            let case = Case::new(dtype, (512, 18, tokens), kernel, 3);
            let expected = bits(&case.run(Isa::Plain, 1));
            for isa in Isa::available() {
                assert_eq!(bits(&case.run(isa, 2)), expected, "{dtype} {isa} {tokens} {kernel}");
            }
            for (y, expected) in expected.chunks(case.n_out + 1).zip(case.reference()) {
                for (y, (expected, tolerance)) in y.iter().zip(expected) {
                    assert!((f64::from(f32::from_bits(*y)) - expected).abs() <= tolerance, "{dtype}");
                }
            }
        }
    }
}

#[test]
fn empty_products_write_nothing() {
    for (n_out, tokens, kernel) in
        [(0, 3), (3, 0), (0, 20), (20, 0)].into_iter().flat_map(|(n, t)| KERNELS.map(|kernel| (n, t, kernel)))
    {
        for dtype in [DType::Q4_0, DType::F16, DType::IQ2_S] {
            let case = Case::new(dtype, (256, n_out, tokens), kernel, 0);
            assert!(case.run(Isa::detect(), 2).iter().all(|&y| y == f32::MAX));
        }
    }
}

#[test]
fn a_residual_may_be_the_result() {
    let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    for (tokens, kernel) in [2, 12].into_iter().flat_map(|tokens| KERNELS.map(|kernel| (tokens, kernel))) {
        let mut case = Case::new(DType::Q4_K, (256, 30, tokens), kernel, 2);
        let expected = case.run(Isa::detect(), 2);
        let mut y = case.residual.take().unwrap();
        // SAFETY: `linear` allows the residual to be the result; `y` outlives the product.
        let (residual, out) = unsafe {
            (Rows::from_raw(y.as_ptr(), y.len(), 30), RowsMut::from_raw(y.as_mut_ptr(), y.len(), 30))
        };
        let mut args = LinearArgs {
            dtype: case.dtype,
            weight: &case.weight[1..],
            k: case.k,
            n_out: case.n_out,
            tokens,
            kernel,
            x: Rows::new(&case.x, case.k),
            y: out,
            bias: None,
            residual: Some(residual),
        };
        linear_on(&pool, Isa::detect(), &mut args).unwrap();
        for (y, expected) in y.chunks(30).zip(expected.chunks(31)) {
            assert_eq!(y, &expected[..30]);
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let pool = Pool::new(NonZeroUsize::MIN).unwrap();
    let (weight, x, mut y) = (vec![0u8; 18 * 4], vec![0f32; 64], vec![0f32; 8]);
    let kernel = ProductKernel::Rows;
    let mut try_with = |dtype, k, n_out, tokens, weight: &[u8], x_stride, y_stride| {
        let (x, y) = (Rows::new(&x, x_stride), RowsMut::new(&mut y, y_stride));
        linear_on(
            &pool,
            Isa::Plain,
            &mut LinearArgs { dtype, weight, k, n_out, tokens, kernel, x, y, bias: None, residual: None },
        )
    };
    assert_eq!(try_with(DType::Q4_0, 32, 4, 2, &weight, 32, 4), Ok(()));
    assert_eq!(try_with(DType::I32, 32, 4, 2, &weight, 32, 4), Err(LinearError::DType(DType::I32)));
    let short = |result, buffer| match result {
        Err(LinearError::Short { what, .. }) => assert_eq!(what, buffer),
        other => panic!("{other:?}"),
    };
    short(try_with(DType::Q4_0, 32, 4, 2, &weight[1..], 32, 4), "weight");
    short(try_with(DType::Q4_0, 32, 4, 2, &weight, 33, 4), "x");
    short(try_with(DType::Q4_0, 32, 4, 2, &weight, 32, 5), "y");
    for (k, n_out, y_stride) in [(31, 4, 4), (32, usize::MAX, 4), (usize::MAX / 32 * 32, 4, 4), (32, 4, 3)] {
        let result = try_with(DType::Q4_0, k, n_out, 2, &weight, 32, y_stride);
        assert!(matches!(result, Err(LinearError::Shape { .. })), "{result:?}");
    }
    let [rows, panels] = KERNELS;
    let needed = LinearArgs::scratch_bytes(DType::Q4_0, 4096, 100, panels, 2).unwrap();
    assert!(needed > LinearArgs::scratch_bytes(DType::Q4_0, 4096, 100, rows, 2).unwrap());
    for dtype in [DType::Q4_0, DType::F16] {
        assert_eq!(LinearArgs::scratch_bytes(dtype, usize::MAX, 100, panels, 2), None);
    }
}

/// A product is computed by one caller at a time: two callers would both write its result.
#[test]
fn linear_on_needs_exclusive_access() {
    let alone: fn(&Pool, Isa, &mut LinearArgs<'_>) -> Result<(), LinearError> = linear_on;
    let pool = Pool::new(NonZeroUsize::MIN).unwrap();
    let (weight, x, mut y) = ([1f32, 2.0], [3f32, 4.0], [0f32]);
    let mut args = LinearArgs {
        dtype: DType::F32,
        weight: bytemuck::cast_slice(&weight),
        k: 2,
        n_out: 1,
        tokens: 1,
        kernel: ProductKernel::Rows,
        x: Rows::new(&x, 2),
        y: RowsMut::new(&mut y, 1),
        bias: None,
        residual: None,
    };
    alone(&pool, Isa::Plain, &mut args).unwrap();
    assert_eq!(y, [11.0]);
}
