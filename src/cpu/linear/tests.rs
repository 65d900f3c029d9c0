//! Products of every format: the same bits on every instruction set, and close to exact arithmetic.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

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

/// Offsets of the f16 fields of a block, and whether the field is f16 at all.
fn halves_of(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[],
    }
}

/// Rows of random blocks, with scales of ordinary size.
fn weights(dtype: DType, k: usize, rows: usize, random: &mut Random) -> Vec<u8> {
    let bytes = dtype.row_bytes(k).unwrap() * rows;
    match dtype {
        DType::F32 => (0..bytes / 4).flat_map(|_| random.value().to_le_bytes()).collect(),
        DType::F16 => {
            (0..bytes / 2).flat_map(|_| half::f16::from_f32(random.value()).to_le_bytes()).collect()
        }
        DType::BF16 => {
            (0..bytes / 2).flat_map(|_| half::bf16::from_f32(random.value()).to_le_bytes()).collect()
        }
        _ => {
            let mut out: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
            for block in out.chunks_mut(dtype.block_bytes()) {
                for &at in halves_of(dtype) {
                    let half = half::f16::from_f32(random.value() * 0.1).to_le_bytes();
                    block[at..at + 2].copy_from_slice(&half);
                }
            }
            out
        }
    }
}

struct Case {
    dtype: DType,
    k: usize,
    n_out: usize,
    tokens: usize,
    seed: u64,
    weight: Vec<u8>,
    x: Vec<f32>,
    bias: Option<Vec<f32>>,
    residual: Option<Vec<f32>>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { dtype, k, n_out, tokens, seed, .. } = self;
        write!(f, "Case::new(DType::{dtype:?}, {k}, {n_out}, {tokens}, {seed})")
    }
}

impl Case {
    fn new(dtype: DType, k: usize, n_out: usize, tokens: usize, seed: u64) -> Case {
        let mut random = Random(seed);
        let mut values = |n: usize| (0..n).map(|_| random.value()).collect::<Vec<f32>>();
        let x = values(tokens * k);
        let bias = (seed & 1 != 0).then(|| values(n_out));
        let residual = (seed & 2 != 0).then(|| values(n_out * tokens));
        // One byte more in front: rows may start at any address.
        let mut weight = vec![0];
        weight.extend(weights(dtype, k, n_out, &mut random));
        Case { dtype, k, n_out, tokens, seed, weight, x, bias, residual }
    }

    fn run(&self, isa: Isa, threads: usize) -> Vec<f32> {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        // A gap between the rows of the result must stay as it is.
        let stride = self.n_out + 1;
        let mut y = vec![f32::MAX; self.tokens * stride];
        let args = Linear {
            dtype: self.dtype,
            weight: &self.weight[1..],
            k: self.k,
            n_out: self.n_out,
            tokens: self.tokens,
            x: Rows::new(&self.x, self.k),
            y: RowsMut::new(&mut y, stride),
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref().map(|values| Rows::new(values, self.n_out)),
        };
        linear_on(&pool, isa, &args).unwrap();
        y
    }
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

fn supported() -> Vec<DType> {
    DType::all()
        .filter(|dtype| {
            format::is_integer(*dtype)
                || !halves_of(*dtype).is_empty()
                || matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
        })
        .collect()
}

fn cases() -> impl Strategy<Value = Case> {
    (0..supported().len(), 1usize..4, 1usize..40, prop_oneof![1usize..=8, 9usize..28], any::<u64>()).prop_map(
        |(dtype, blocks, n_out, tokens, seed)| {
            let dtype = supported()[dtype];
            let k = match dtype.block_elements() {
                1 => blocks * 100 + seed as usize % 77,
                32 => blocks * 160,
                elements => blocks * elements,
            };
            Case::new(dtype, k, n_out, tokens, seed)
        },
    )
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
        for (i, y) in case.run(Isa::Plain, 2).iter().enumerate() {
            prop_assert_eq!(i % (case.n_out + 1) == case.n_out, *y == f32::MAX);
        }
    }
}
