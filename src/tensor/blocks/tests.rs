//! Exact values against fixtures, and properties of all formats.

use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use super::iq2::signs_of_7_bits;
use super::k_quants::unpack_scales_mins;
use super::*;

fn fixture(dtype: DType, extension: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/quants")
        .join(format!("{dtype}.{extension}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dequantized(dtype: DType, blocks: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; blocks.len() / dtype.block_bytes() * dtype.block_elements()];
    dequantize(dtype, blocks, &mut values).unwrap();
    values
}

fn quantized(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut blocks = Vec::new();
    quantize(dtype, values, &mut blocks).unwrap();
    blocks
}

fn real_types() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| dtype.is_float())
}

const LEGACY: [DType; 5] = [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0];

/// `f32::to_bits`, with one pattern for all that is not a number: its payload is the machine's.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

#[test]
fn every_format_has_the_exact_values_of_its_fixture() {
    for dtype in real_types().filter(|&dtype| dtype != DType::F32) {
        let blocks = fixture(dtype, "q");
        let expected = dequantized(DType::F32, &fixture(dtype, "f32"));
        assert_eq!(expected.len(), 64 * 256, "{dtype}");
        let values = dequantized(dtype, &blocks);
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            let (row, column) = (i / 256, i % 256);
            assert_eq!(
                value.to_bits(),
                expected.to_bits(),
                "{dtype} row {row} column {column}: {value} is not {expected}"
            );
        }
        assert_eq!(values.len(), expected.len(), "{dtype}");
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    for dtype in real_types() {
        let (bytes, elements) = (dtype.block_bytes(), dtype.block_elements());
        let blocks = vec![0; 3 * bytes];
        let mut out = vec![1.0; 4 * elements];
        for length in [0, 2 * elements, 3 * elements - 1, 3 * elements + 1, 4 * elements] {
            let error = dequantize(dtype, &blocks, &mut out[..length]).unwrap_err();
            assert_eq!(error, BlockError::WrongLength { dtype, blocks: 3, elements, values: length });
        }
        let error = dequantize(dtype, &blocks[1..], &mut out[..3 * elements]).unwrap_err();
        assert_eq!(error, BlockError::PartialBytes { dtype, bytes: 3 * bytes - 1, block: bytes });
        assert!(out.iter().all(|&x| x == 1.0), "{dtype}: an error wrote values");
        assert_eq!(dequantize(dtype, &[], &mut []), Ok(()));
    }
    let error = dequantize(DType::I32, &[0; 4], &mut [0.0]).unwrap_err();
    assert_eq!(error, BlockError::NotReal { dtype: DType::I32 });
}

#[test]
fn scales_of_8_bits_are_their_definition() {
    for code in 0..=255u8 {
        assert_eq!(f64::from(half_e8m0(code)), 2f64.powi(i32::from(code) - 128), "E8M0 {code}");
        let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
        let value = match (code, exponent) {
            (0x7F, _) => 0.0,
            (_, 0) => mantissa / 8.0 * 2f64.powi(-6),
            _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
        };
        assert_eq!(f64::from(half_ue4m3(code)), value / 2.0, "E4M3 {code}");
    }
}

#[test]
fn seven_sign_bits_make_an_even_number_of_negatives() {
    for bits in 0..=255 {
        let signs = signs_of_7_bits(bits);
        assert_eq!((signs & 127, signs.count_ones() % 2), (bits & 127, 0));
    }
}

#[test]
fn five_ternary_digits_come_back() {
    for number in 0..243u16 {
        // The byte of the digits is number / 243 as a fraction of 256, rounded up.
        let byte = (number * 256).div_ceil(243) as u8;
        for n in 0..5 {
            let digit = number / 3u16.pow(4 - n as u32) % 3;
            assert_eq!(i16::from(ternary_digit(byte, n)), digit as i16 - 1, "{number} digit {n}");
        }
    }
}

#[test]
fn only_some_formats_are_written() {
    let mut out = vec![7];
    for dtype in DType::all() {
        let writable = WRITABLE.contains(&dtype);
        let result = quantize(dtype, &[], &mut out);
        assert_eq!(result, if writable { Ok(()) } else { Err(BlockError::NotWritable { dtype }) });
    }
    for dtype in LEGACY {
        let error = quantize(dtype, &[1.0; 33], &mut out).unwrap_err();
        assert_eq!(error, BlockError::PartialValues { dtype, values: 33, block: 32 });
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut values = [1.0; 96];
            values[40] = wrong;
            let error = quantize(dtype, &values, &mut out).unwrap_err();
            assert_eq!(error, BlockError::OutOfRange { dtype, first: 32, last: 63 }, "{wrong}");
        }
    }
    assert_eq!(out, [7], "an error wrote bytes");
}

/// How far the plain scheme may move the values of a block: the largest value at the last code, every other at the
/// nearest.
///
/// Let `r(v) = max(|v|·2⁻¹¹, 2⁻²⁵)`, half a unit in the last place of f16 at `v`, and `q` the largest magnitude that a
/// code multiplies `d` by (127, 8, 16, 15, 31). Rounding to a code moves a value by at most `|d| / 2`, rounding `d` by
/// at most `q·r(d)`, rounding the offset `m` by at most `r(m)`. Q4_0 and Q5_0 have no code for the mirror image of their
/// extreme: beyond `q − 1.5` codes on that side the first term is `|d|`.
fn bounds(dtype: DType, values: &[f32]) -> Vec<f32> {
    let half_ulp = |v: f32| (v.abs() * 2f32.powi(-11)).max(2f32.powi(-25));
    let extreme = values.iter().copied().fold(0.0, |e: f32, x| if x.abs() > e.abs() { x } else { e });
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (d, q, offset) = match dtype {
        DType::Q8_0 => (extreme.abs() / 127.0, 127.0, 0.0),
        DType::Q4_0 => (extreme / -8.0, 8.0, 0.0),
        DType::Q5_0 => (extreme / -16.0, 16.0, 0.0),
        DType::Q4_1 => ((max - min) / 15.0, 15.0, half_ulp(min)),
        DType::Q5_1 => ((max - min) / 31.0, 31.0, half_ulp(min)),
        _ => unreachable!("{dtype} is not written"),
    };
    let mirrored = matches!(dtype, DType::Q4_0 | DType::Q5_0);
    // Subtraction, product, sum and dequantization round once each, on numbers up to q·d and |m|.
    let arithmetic = 8.0 * f32::EPSILON * (q * d.abs() + extreme.abs());
    let bound = |x: &f32| {
        let steps = if mirrored && x / d > q - 1.5 { 1.0 } else { 0.5 };
        steps * d.abs() + q * half_ulp(d) + offset + arithmetic
    };
    values.iter().map(bound).collect()
}

/// Blocks of any bytes, of any real type: whole blocks, from none to five.
fn any_blocks() -> impl Strategy<Value = (DType, Vec<u8>)> {
    let types: Vec<DType> = real_types().collect();
    (proptest::sample::select(types), 0usize..6).prop_flat_map(|(dtype, count)| {
        vec(any::<u8>(), count * dtype.block_bytes()).prop_map(move |blocks| (dtype, blocks))
    })
}

/// A block of values of all sizes that an f16 scale can serve, from subnormal to huge.
fn any_values() -> impl Strategy<Value = Vec<f32>> {
    (-30i32..15, vec(-1f32..1.0, 32), proptest::sample::select(vec![0f32, 3.0, -100.0])).prop_map(
        |(exponent, values, centre)| {
            values.into_iter().map(|x| (x + centre) * 2f32.powi(exponent.min(9))).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_blocks_and_stand_alone((dtype, blocks) in any_blocks(), split in 0usize..6) {
        let whole = dequantized(dtype, &blocks);
        let split = split * dtype.block_bytes();
        let (head, tail) = blocks.split_at(split.min(blocks.len()));
        let mut parts = dequantized(dtype, head);
        parts.extend(dequantized(dtype, tail));
        prop_assert_eq!(bits(&whole), bits(&parts));
    }

    #[test]
    fn blocks_may_lie_at_any_address((dtype, blocks) in any_blocks(), offset in 1usize..8) {
        let mut moved = vec![0xAA; offset];
        moved.extend(&blocks);
        prop_assert_eq!(bits(&dequantized(dtype, &moved[offset..])), bits(&dequantized(dtype, &blocks)));
    }

    #[test]
    fn quantization_moves_a_block_by_no_more_than_derived(values in any_values()) {
        for dtype in LEGACY {
            let back = dequantized(dtype, &quantized(dtype, &values));
            // A single value may move further, for the good of the others.
            let square = |x: f32| f64::from(x).powi(2);
            let moved: f64 = values.iter().zip(back).map(|(x, y)| square(x - y)).sum();
            let bound: f64 = bounds(dtype, &values).into_iter().map(square).sum();
            prop_assert!(moved <= bound * 1.001, "{dtype}: {moved}, bound {bound}");
        }
    }

    #[test]
    fn plain_types_round_to_the_nearest(values in vec(any::<f32>(), 0..200)) {
        prop_assert_eq!(bits(&dequantized(DType::F32, &quantized(DType::F32, &values))), bits(&values));
        // Exactly representable numbers come back as they are.
        for dtype in [DType::F16, DType::BF16] {
            let rounded = dequantized(dtype, &quantized(dtype, &values));
            prop_assert_eq!(bits(&dequantized(dtype, &quantized(dtype, &rounded))), bits(&rounded));
            for (x, y) in values.iter().zip(rounded) {
                // Half a unit in the last place for 11 and 8 significant bits, above and below the
                // smallest normal number; beyond the largest number values become infinite.
                let (unit, least, most) = match dtype {
                    DType::F16 => (2f32.powi(-11), 2f32.powi(-25), 65504.0),
                    _ => (2f32.powi(-8), 2f32.powi(-134), 3.3e38),
                };
                if x.abs() <= most {
                    prop_assert!((x - y).abs() <= (x.abs() * unit).max(least), "{dtype}: {x} became {y}");
                }
            }
        }
    }

    #[test]
    fn six_bit_scales_come_back(scales in proptest::array::uniform8(0u8..64), mins in proptest::array::uniform8(0u8..64)) {
        let mut packed = [0; 12];
        for t in 0..4 {
            packed[t] = scales[t] | (scales[t + 4] >> 4) << 6;
            packed[t + 4] = mins[t] | (mins[t + 4] >> 4) << 6;
            packed[t + 8] = (scales[t + 4] & 15) | (mins[t + 4] & 15) << 4;
        }
        prop_assert_eq!(unpack_scales_mins(&packed), (scales, mins));
    }
}
