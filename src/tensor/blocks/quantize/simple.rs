//! Formats of one scale a block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4.
//!
//! The plain scheme is one of the candidates:
//!
//! - Q4_0, Q5_0, IQ4_NL: `d = extreme / smallest level`, where `extreme` is the value of largest magnitude with its
//!   sign. It gets the level without a positive counterpart, so that all levels are used;
//! - Q4_1, Q5_1: `m = min`, `d = (max − min) / levels`;
//! - MXFP4: the smallest power of two for which the largest value is not clamped by more than its rounding.
//!
//! Q8_0 is the plain scheme with `d = amax / 127`: its error is far below that of the activations, so a search is not
//! worth it, and other programs write the same bytes.

use super::super::half_e8m0;
use super::fit::{OffsetGrid, ScaleGrid, scale, scale_and_offset};
use super::levels::{E2m1, Group, Iq4, Levels, Whole, inverse};
use super::*;

/// [`EVEN`](super::EVEN) for one block.
const EVEN: [f32; 32] = [1.0; 32];

const GRID_Q4: ScaleGrid = ScaleGrid { from: 6.0, to: 10.5, step: 0.15 };
const GRID_Q5: ScaleGrid = ScaleGrid { from: 14.0, to: 19.0, step: 0.2 };
pub(super) const GRID_IQ4: ScaleGrid = ScaleGrid { from: 90.0, to: 150.0, step: 1.5 };
const OFFSETS: OffsetGrid = &[-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0];

/// Weights for the levels of IQ4, which are far apart for large values: errors there count more, in proportion to the
/// value. Chosen by the KL divergence of the demo model, which is 1.5 times as large with equal weights.
pub(super) fn iq4_weights<const N: usize>(x: &[f32; N]) -> [f32; N] {
    x.map(f32::abs)
}

/// The better of a searched and the plain scale, as stored, and the codes.
fn around_zero<L: Levels>(values: &Scaled<32>, w: &[f32; 32], grid: ScaleGrid) -> Option<(Field, [u8; 32])> {
    let group = Group { x: &values.x, w };
    let plain = values.field(group.extreme() / L::LEAST)?;
    let found = values.field(scale::<L, 32>(&group, grid)).unwrap_or(plain);
    let error = |d: Field| group.error::<L>(d.value, 0.0);
    let d = if error(found) < error(plain) { found } else { plain };
    Some((d, group.codes::<L>(d.value, 0.0)))
}

/// The better of a searched and the plain pair of scale and offset, as stored, and the codes.
fn above_offset<L: Levels>(values: &Scaled<32>, w: &[f32; 32]) -> Option<(Field, Field, [u8; 32])> {
    let group = Group { x: &values.x, w };
    let (least, most) = group.range();
    let (d, m) = (values.field((most - least) / L::MOST)?, values.field(least)?);
    let found = scale_and_offset::<L, 32>(&group, f32::INFINITY, OFFSETS);
    let found = values.field(found.0).zip(values.field(found.1)).unwrap_or((d, m));
    let error = |d: Field, m: Field| group.error::<L>(d.value, m.value);
    let (d, m) = if error(found.0, found.1) < error(d, m) { found } else { (d, m) };
    Some((d, m, group.codes::<L>(d.value, m.value)))
}

/// The low four bits of 32 codes, packed as in every format of this file.
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// Bit 4 of 32 codes, code `i` in bit `i`.
fn pack_high_bits(codes: &[u8; 32]) -> [u8; 4] {
    let word = codes.iter().enumerate().fold(0u32, |word, (i, code)| word | u32::from(code >> 4 & 1) << i);
    word.to_le_bytes()
}

impl Quantize<32> for BlockQ4_0 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let (d, codes) = around_zero::<Whole<-8, 7>>(values, &EVEN, GRID_Q4)?;
        Some(Self { d: d.bytes, qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ4_1 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let (d, m, codes) = above_offset::<Whole<0, 15>>(values, &EVEN)?;
        Some(Self { d: d.bytes, m: m.bytes, qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ5_0 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let (d, codes) = around_zero::<Whole<-16, 15>>(values, &EVEN, GRID_Q5)?;
        Some(Self { d: d.bytes, qh: pack_high_bits(&codes), qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ5_1 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let (d, m, codes) = above_offset::<Whole<0, 31>>(values, &EVEN)?;
        Some(Self { d: d.bytes, m: m.bytes, qh: pack_high_bits(&codes), qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ8_0 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let d = Group { x: &values.x, w: &EVEN }.extreme().abs() / 127.0;
        let inverse = inverse(d);
        Some(Self { d: values.field(d)?.bytes, qs: values.x.map(|x| (x * inverse).round() as i8) })
    }
}

impl Quantize<32> for BlockIq4Nl {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let (d, codes) = around_zero::<Iq4>(values, &iq4_weights(&values.x), GRID_IQ4)?;
        Some(Self { d: d.bytes, qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockMxfp4 {
    fn quantize(values: &Scaled<32>) -> Option<Self> {
        let group = Group { x: &values.x, w: &EVEN };
        // The largest value is in 1..2 units, or all are 0. The largest level is 12 times half the scale, so that half
        // a scale of 1/8 covers values up to 1.5, and 1/4 all; smaller scales clamp more.
        let unit = (values.unit.to_bits() >> 23) as i32 - 127;
        let exponent = |shift: i32| u8::try_from(unit + shift + 128).ok().filter(|&e| e < 255);
        let scale = |e: u8| half_e8m0(e) / values.unit;
        let error = |e: u8| group.error::<E2m1>(scale(e), 0.0);
        let e = (-5..=-2).filter_map(exponent).min_by(|&a, &b| error(a).total_cmp(&error(b)))?;
        Some(Self { e, qs: pack_nibbles(&group.codes::<E2m1>(scale(e), 0.0)) })
    }
}
