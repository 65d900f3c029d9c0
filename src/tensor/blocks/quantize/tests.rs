//! Every block format compared with the plain scheme, and the independence of blocks.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::dequantize;
use super::*;

/// Block formats that are written.
fn formats() -> impl Iterator<Item = DType> {
    WRITABLE.into_iter().filter(|dtype| !dtype.is_plain())
}

fn quantized(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut blocks = Vec::new();
    quantize(dtype, values, &mut blocks).unwrap_or_else(|error| panic!("{error}"));
    blocks
}

fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
    let mut back = vec![f32::NAN; values.len()];
    dequantize(dtype, &quantized(dtype, values), &mut back).unwrap();
    back
}

/// The weight of a value's error in the minimized sum.
fn weight(dtype: DType, x: f32) -> f64 {
    if matches!(dtype, DType::IQ4_NL | DType::IQ4_XS) { f64::from(x).abs() } else { 1.0 }
}

fn error(dtype: DType, values: &[f32], back: &[f32]) -> f64 {
    let term = |(&x, &y): (&f32, &f32)| weight(dtype, x) * (f64::from(x) - f64::from(y)).powi(2);
    values.iter().zip(back).map(term).sum()
}

/// A number rounded to f16.
fn stored(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// The nearest of a list of levels, times the scale.
fn nearest(x: f32, scale: f32, levels: &[f32]) -> f32 {
    let distance = |level: &f32| (x - scale * level).abs();
    scale * levels.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0.0)
}

fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &x| if x.abs() > most.abs() { x } else { most })
}

fn whole(least: i32, most: i32) -> Vec<f32> {
    (least..=most).map(|level| level as f32).collect()
}

/// One scale a block, no offset.
fn plain_around_zero(values: &[f32], levels: &[f32]) -> Vec<f32> {
    let d = stored(extreme(values) / levels[0]);
    values.iter().map(|&x| nearest(x, d, levels)).collect()
}

/// A scale and an offset a block.
fn plain_above(values: &[f32], levels: &[f32]) -> Vec<f32> {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (d, m) = (stored((most - least) / levels[levels.len() - 1]), stored(least));
    values.iter().map(|&x| nearest(x - m, d, levels) + m).collect()
}

/// Integer scales of groups of `n`, from `integers.0` to `integers.1`.
fn plain_scaled(values: &[f32], n: usize, levels: &[f32], integers: (f32, f32)) -> Vec<f32> {
    let scales: Vec<f32> = values.chunks(n).map(|group| extreme(group) / levels[0]).collect();
    let d = stored(extreme(&scales) / integers.0);
    let group = |(group, scale): (&[f32], &f32)| {
        let integer = if d == 0.0 { 0.0 } else { (scale / d).round().clamp(integers.0, integers.1) };
        group.iter().map(|&x| nearest(x, d * integer, levels)).collect::<Vec<_>>()
    };
    values.chunks(n).zip(&scales).flat_map(group).collect()
}

/// Integer scales and mins of groups of `n`, up to `most`.
fn plain_offset(values: &[f32], n: usize, levels: &[f32], most: f32) -> Vec<f32> {
    let pair = |group: &[f32]| {
        let least = group.iter().copied().fold(0.0, f32::min);
        let greatest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        ((greatest - least).max(0.0) / levels[levels.len() - 1], -least)
    };
    let pairs: Vec<(f32, f32)> = values.chunks(n).map(pair).collect();
    let d = stored(pairs.iter().fold(0.0, |most: f32, pair| most.max(pair.0)) / most);
    let dmin = stored(pairs.iter().fold(0.0, |most: f32, pair| most.max(pair.1)) / most);
    let integer = |x: f32, d: f32| if d == 0.0 { 0.0 } else { (x / d).round().clamp(0.0, most) };
    let group = |(group, &(scale, min)): (&[f32], &(f32, f32))| {
        let (scale, min) = (d * integer(scale, d), dmin * integer(min, dmin));
        group.iter().map(|&x| nearest(x + min, scale, levels) - min).collect::<Vec<_>>()
    };
    values.chunks(n).zip(&pairs).flat_map(group).collect()
}

/// A block's values after a round trip through the plain scheme.
fn plain(dtype: DType, values: &[f32]) -> Vec<f32> {
    let iq4: Vec<f32> = super::super::IQ4_VALUES.map(f32::from).to_vec();
    match dtype {
        DType::Q4_0 => plain_around_zero(values, &whole(-8, 7)),
        DType::Q5_0 => plain_around_zero(values, &whole(-16, 15)),
        DType::IQ4_NL => plain_around_zero(values, &iq4),
        DType::Q4_1 => plain_above(values, &whole(0, 15)),
        DType::Q5_1 => plain_above(values, &whole(0, 31)),
        DType::Q3_K => plain_scaled(values, 16, &whole(-4, 3), (-32.0, 31.0)),
        DType::Q6_K => plain_scaled(values, 16, &whole(-32, 31), (-128.0, 127.0)),
        DType::IQ4_XS => plain_scaled(values, 32, &iq4, (-32.0, 31.0)),
        DType::Q2_K => plain_offset(values, 16, &whole(0, 3), 15.0),
        DType::Q4_K => plain_offset(values, 32, &whole(0, 15), 63.0),
        DType::Q5_K => plain_offset(values, 32, &whole(0, 31), 63.0),
        DType::MXFP4 => {
            // The largest value's power of two, divided by that of E2M1's largest number, 4.
            let largest = extreme(values).abs();
            let scale = if largest == 0.0 { 1.0 } else { 2f32.powi(largest.log2().floor() as i32 - 2) };
            let levels = super::super::E2M1_DOUBLED.map(|level| f32::from(level) / 2.0);
            values.iter().map(|&x| nearest(x, scale, &levels)).collect()
        }
        other => panic!("{other} has no plain scheme here"),
    }
}

/// Values like those of matrices, of any size that fits an f16 scale, with and without an offset and with outliers.
fn any_block() -> impl Strategy<Value = Vec<f32>> {
    let shape = (-12i32..9, prop_oneof![Just(0f32), Just(3.0), Just(-0.7)], 1u32..6);
    (shape, vec(-1f32..1.0, 256)).prop_map(|((exponent, centre, power), values)| {
        values.into_iter().map(|x| (x.powi(power as i32) + centre) * 2f32.powi(exponent)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_block_is_worse_than_the_plain_scheme(values in any_block()) {
        // Q8_0 is the plain scheme itself: see `q8_0_is_the_plain_scheme`.
        for dtype in formats().filter(|&dtype| dtype != DType::Q8_0) {
            let n = dtype.block_elements();
            for values in values.chunks(n) {
                let (found, plain) = (round_trip(dtype, values), plain(dtype, values));
                let (found, plain) = (error(dtype, values, &found), error(dtype, values, &plain));
                // The search compares errors as f32 sums of 256 terms, each of a few roundings, and a value between two
                // codes may round either way: 2⁻²⁴ · 300 of the values' own squares, and of the error.
                let own: f64 = values.iter().map(|&x| weight(dtype, x) * f64::from(x).powi(2)).sum();
                prop_assert!(found <= plain * (1.0 + 1e-4) + 1e-9 * own, "{dtype}: {found} and not {plain}");
            }
        }
    }

    #[test]
    fn a_block_depends_on_its_values_alone(values in any_block(), other in any_block()) {
        for dtype in formats() {
            let both = [&other[..], &values[..]].concat();
            let alone = quantized(dtype, &values);
            prop_assert!(quantized(dtype, &both).ends_with(&alone), "{dtype}");
        }
    }

    /// A power of two changes only the scales, as far as f16 holds their digits.
    #[test]
    fn powers_of_two_change_no_code(values in vec(16f32..64.0, 256), exponent in -3i32..4) {
        let power = 2f32.powi(exponent);
        let moved: Vec<f32> = values.iter().map(|x| x * power).collect();
        for dtype in formats() {
            // A scale or offset below the smallest normal f16 is a multiple of 2⁻²⁴, off by half of that at most, on
            // either side; integers of six bits are their factors.
            let bound = 2.0 * 64.0 * 2f32.powi(-25) * power.max(1.0);
            for (x, y) in round_trip(dtype, &values).iter().zip(round_trip(dtype, &moved)) {
                prop_assert!((x * power - y).abs() <= bound, "{}: {} moved is {}", dtype, x, y);
            }
        }
    }
}

#[test]
fn blocks_of_one_value_round_trip() {
    for dtype in formats() {
        for x in [0.0f32, 1.0, -1.0, 0.5, -96.0] {
            let back = round_trip(dtype, &[x; 256]);
            // One f16 rounding of a scale, or of a scale and an offset; MXFP4's scale is a power of two, so it is off
            // by more.
            let bound = if dtype == DType::MXFP4 { x.abs() / 4.0 } else { x.abs() * 2f32.powi(-9) };
            assert!(back.iter().all(|y| (x - y).abs() <= bound), "{dtype}: {x} became {}", back[0]);
        }
    }
}

#[test]
fn tiny_values_become_zero_and_huge_values_are_errors() {
    for dtype in formats() {
        let n = dtype.block_elements();
        assert!(round_trip(dtype, &vec![1e-30; n]).iter().all(|&x| x.abs() <= 1e-7), "{dtype}");
        assert!(round_trip(dtype, &vec![f32::from_bits(1); n]).iter().all(|&x| x.abs() <= 1e-7), "{dtype}");
        for wrong in [f32::NAN, f32::INFINITY, f32::MIN, 1e20] {
            let mut values = vec![1.0; 3 * n];
            values[n + 5] = wrong;
            let mut out = vec![7];
            let error = quantize(dtype, &values, &mut out).unwrap_err();
            assert_eq!(error, BlockError::OutOfRange { dtype, first: n, last: 2 * n - 1 }, "{wrong}");
            assert_eq!(out, [7], "an error wrote bytes");
        }
    }
}

/// Other programs write the same Q8_0: the bytes of this block are known.
#[test]
fn q8_0_is_the_plain_scheme() {
    let values: Vec<f32> = (0..32).map(|i| (i as f32 - 20.0) * 0.1).collect();
    let block = quantized(DType::Q8_0, &values);
    let d = 2.0f32 / 127.0;
    assert_eq!(block[..2], f16::from_f32(d).to_le_bytes());
    for (byte, x) in block[2..].iter().zip(&values) {
        assert_eq!(f32::from(*byte as i8), (x / d).round(), "{x}");
    }
}
