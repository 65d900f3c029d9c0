//! Values to blocks, for the plain types and the 32-element formats with one scale.
//!
//! The scheme is rounding to the nearest code. The scale is computed in f32, codes are chosen with it,
//! and it is stored as f16:
//!
//! - Q8_0: `d = amax / 127`, where `amax` is the largest magnitude;
//! - Q4_0, Q5_0: `d = extreme / −8` or `/ −16`, where `extreme` is the value of largest magnitude with
//!   its sign: it gets the code that has no mirror image, so that all codes are used;
//! - Q4_1, Q5_1: `m = min`, `d = (max − min) / 15` or `/ 31`.
//!
//! # How far a value can move
//!
//! Let `r(v) = max(|v|·2⁻¹¹, 2⁻²⁵)`, half a unit in the last place of f16 at `v`, and `q` the largest
//! magnitude that a code multiplies `d` by (127, 8, 16, 15, 31). Rounding to a code moves a value by at
//! most `|d| / 2`, rounding `d` by at most `q·r(d)`, rounding `m` by at most `r(m)`. Together:
//!
//! - Q8_0: `|d| / 2 + 127·r(d)`;
//! - Q4_1, Q5_1: `|d| / 2 + q·r(d) + r(m)`;
//! - Q4_0, Q5_0: `|d| / 2 + q·r(d)` for values up to `7.5·|d|` (`15.5·|d|`) on the side away from the
//!   extreme. Beyond, the last code is a whole step short of the mirrored extreme, and the bound is
//!   `|d| + q·r(d)`.
//!
//! The f32 arithmetic in between adds at most a few units of 2⁻²⁴ of `q·|d|` and of `|m|`.

use half::f16;

use super::{Block, BlockError, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, plain};
use crate::tensor::DType;

/// Appends `values` as elements of `dtype` to `out`, rounding to nearest.
///
/// Writes F32, F16, BF16 (ties to even; too large a value becomes infinite) and Q4_0, Q4_1, Q5_0, Q5_1,
/// Q8_0. Errors: another type, values that do not fill whole blocks, and in block formats values that
/// are not finite or too large for the f16 scale. After an error `out` is as before.
pub fn quantize(dtype: DType, values: &[f32], out: &mut Vec<u8>) -> Result<(), BlockError> {
    match dtype {
        DType::F32 => plain::encode_f32(values, out),
        DType::F16 => plain::encode_f16(values, out),
        DType::BF16 => plain::encode_bf16(values, out),
        DType::Q4_0 => return encode::<BlockQ4_0, _>(dtype, values, out),
        DType::Q4_1 => return encode::<BlockQ4_1, _>(dtype, values, out),
        DType::Q5_0 => return encode::<BlockQ5_0, _>(dtype, values, out),
        DType::Q5_1 => return encode::<BlockQ5_1, _>(dtype, values, out),
        DType::Q8_0 => return encode::<BlockQ8_0, _>(dtype, values, out),
        _ => return Err(BlockError::NotWritable { dtype }),
    }
    Ok(())
}

/// A block format that values can be written in.
pub(super) trait Quantize<const N: usize>: Block<N> {
    /// The block nearest to finite values; `None` if a field does not fit an f16.
    fn quantize(values: &[f32; N]) -> Option<Self>;
}

fn encode<B: Quantize<N>, const N: usize>(
    dtype: DType,
    values: &[f32],
    out: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let (groups, rest) = values.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(BlockError::PartialValues { dtype, values: values.len(), block: N });
    }
    let before = out.len();
    out.reserve(groups.len() * size_of::<B>());
    for (i, group) in groups.iter().enumerate() {
        let finite = group.iter().all(|value| value.is_finite());
        let Some(block) = finite.then(|| B::quantize(group)).flatten() else {
            out.truncate(before);
            return Err(BlockError::OutOfRange { dtype, first: i * N, last: i * N + N - 1 });
        };
        out.extend_from_slice(bytemuck::bytes_of(&block));
    }
    Ok(())
}

/// An f16 field of a block.
fn field(value: f32) -> Option<[u8; 2]> {
    let half = f16::from_f32(value);
    half.is_finite().then(|| half.to_le_bytes())
}

/// `1 / d`, or 0 for a block whose values are all the same zero or offset.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of largest magnitude; the first of several.
fn extreme(values: &[f32; 32]) -> f32 {
    values.iter().fold(0.0, |extreme: f32, &x| if x.abs() > extreme.abs() { x } else { extreme })
}

/// Smallest and largest value.
fn range(values: &[f32; 32]) -> (f32, f32) {
    let fold = |pick: fn(f32, f32) -> f32| values.iter().copied().fold(values[0], pick);
    (fold(f32::min), fold(f32::max))
}

/// Code of a value that lies `steps − 0.5` steps above code 0, within 0..=`last`.
fn code(steps: f32, last: u8) -> u8 {
    // The conversion cuts towards zero and saturates; with the half in `steps` it rounds to nearest.
    (steps as u8).min(last)
}

/// Low four bits of 32 codes, as every format of this family packs them.
fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| codes[j] & 15 | codes[j + 16] << 4)
}

/// Bit 4 of 32 codes, code `i` in bit `i`.
fn pack_high_bits(codes: &[u8; 32]) -> [u8; 4] {
    let word = codes.iter().enumerate().fold(0u32, |word, (i, code)| word | u32::from(code >> 4 & 1) << i);
    word.to_le_bytes()
}

/// Scale and codes of a format whose code `zero` stands for 0 and whose last code is `2·zero − 1`.
fn around_zero(values: &[f32; 32], zero: u8) -> (f32, [u8; 32]) {
    let d = extreme(values) / -f32::from(zero);
    let inverse = inverse(d);
    (d, values.map(|x| code(x * inverse + (f32::from(zero) + 0.5), 2 * zero - 1)))
}

/// Scale, offset and codes 0..=`last` of a format whose code 0 stands for the smallest value.
fn above_min(values: &[f32; 32], last: u8) -> (f32, f32, [u8; 32]) {
    let (min, max) = range(values);
    let d = (max - min) / f32::from(last);
    let inverse = inverse(d);
    (d, min, values.map(|x| code((x - min) * inverse + 0.5, last)))
}

impl Quantize<32> for BlockQ4_0 {
    fn quantize(values: &[f32; 32]) -> Option<Self> {
        let (d, codes) = around_zero(values, 8);
        Some(Self { d: field(d)?, qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ4_1 {
    fn quantize(values: &[f32; 32]) -> Option<Self> {
        let (d, m, codes) = above_min(values, 15);
        Some(Self { d: field(d)?, m: field(m)?, qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ5_0 {
    fn quantize(values: &[f32; 32]) -> Option<Self> {
        let (d, codes) = around_zero(values, 16);
        Some(Self { d: field(d)?, qh: pack_high_bits(&codes), qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ5_1 {
    fn quantize(values: &[f32; 32]) -> Option<Self> {
        let (d, m, codes) = above_min(values, 31);
        Some(Self { d: field(d)?, m: field(m)?, qh: pack_high_bits(&codes), qs: pack_nibbles(&codes) })
    }
}

impl Quantize<32> for BlockQ8_0 {
    fn quantize(values: &[f32; 32]) -> Option<Self> {
        let d = extreme(values).abs() / 127.0;
        let inverse = inverse(d);
        Some(Self { d: field(d)?, qs: values.map(|x| (x * inverse).round() as i8) })
    }
}
