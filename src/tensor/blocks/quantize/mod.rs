//! Quantization of values to blocks: plain types, the 32-element formats, the K-quants, IQ4 and MXFP4.
//!
//! A block represents values `scale · level + offset`, where a level is a small number that a code of a few bits
//! selects. For given scales, each code is that of the nearest level. The scales are searched for a small weighted sum
//! of squared errors.
//!
//! - `levels`: the levels of a code, and sums over a group of values.
//! - `fit`: scale, or scale and offset, of one group: a grid of candidates, each improved by least squares.
//! - `simple`: formats of one scale a block.
//! - `scaled`: formats whose groups have integer scales below the block's (Q3_K, Q6_K, IQ4_XS).
//! - `offset`: formats whose groups also have integer mins (Q2_K, Q4_K, Q5_K).
//!
//! Every block is fitted alone and by the same arithmetic, so that a tensor's bytes depend on its values alone.
//!
//! Before the search a block's values are multiplied by a power of two that scales the largest to 1..2. That is exact,
//! and no square overflows or underflows.

mod fit;
mod levels;
mod offset;
mod scaled;
mod simple;
#[cfg(test)]
mod tests;

use half::f16;

use super::{
    Block, BlockError, BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1,
    BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, plain,
};
use crate::tensor::DType;

/// The types that [`quantize`] writes, from the most to the fewest bits.
pub const WRITABLE: [DType; 16] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q6_K,
    DType::Q5_1,
    DType::Q5_0,
    DType::Q5_K,
    DType::Q4_1,
    DType::Q4_0,
    DType::Q4_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
    DType::Q3_K,
    DType::Q2_K,
];

/// Appends `values` as elements of `dtype` to `out`.
///
/// Plain types are rounded (ties to even; too large a value becomes infinite). For block formats the search finds
/// scales with a squared error no larger than that of the plain scheme: the largest value gets the last code, every
/// other the nearest code.
///
/// Errors: a type outside of [`WRITABLE`], values that do not fill whole blocks, and in block formats values that are
/// not finite or too large for the block's scale. After an error `out` is unchanged.
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
        DType::Q2_K => return encode::<BlockQ2K, _>(dtype, values, out),
        DType::Q3_K => return encode::<BlockQ3K, _>(dtype, values, out),
        DType::Q4_K => return encode::<BlockQ4K, _>(dtype, values, out),
        DType::Q5_K => return encode::<BlockQ5K, _>(dtype, values, out),
        DType::Q6_K => return encode::<BlockQ6K, _>(dtype, values, out),
        DType::IQ4_NL => return encode::<BlockIq4Nl, _>(dtype, values, out),
        DType::IQ4_XS => return encode::<BlockIq4Xs, _>(dtype, values, out),
        DType::MXFP4 => return encode::<BlockMxfp4, _>(dtype, values, out),
        _ => return Err(BlockError::NotWritable { dtype }),
    }
    Ok(())
}

/// A block format that can be written.
trait Quantize<const N: usize>: Block<N> {
    /// The block that approximates finite values; `None` if they are too large for a field.
    fn quantize(values: &Scaled<N>) -> Option<Self>;
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
        let Some(block) = Scaled::new(group).as_ref().and_then(B::quantize) else {
            out.truncate(before);
            return Err(BlockError::OutOfRange { dtype, first: i * N, last: i * N + N - 1 });
        };
        out.extend_from_slice(bytemuck::bytes_of(&block));
    }
    Ok(())
}

/// A block's values, multiplied by a power of two that scales the largest magnitude to 1..2.
struct Scaled<const N: usize> {
    x: [f32; N],
    /// The divisor of the values.
    unit: f32,
}

/// Equal weights of all errors: without knowledge of the activations, the expected squared error of a product is
/// proportional to the sum of the squared errors.
const EVEN: [f32; 256] = [1.0; 256];

/// A number rounded to an f16 field.
#[derive(Clone, Copy)]
struct Field {
    bytes: [u8; 2],
    /// The number that the field holds, divided by the block's unit.
    value: f32,
}

impl<const N: usize> Scaled<N> {
    /// Exponents of the largest value below which f16 scales are zero in any format, and above which no scale fits.
    const EXPONENTS: std::ops::RangeInclusive<i32> = -60..=60;

    /// `None` if a value is not finite or far too large for any format.
    fn new(values: &[f32; N]) -> Option<Scaled<N>> {
        let finite = values.iter().all(|value| value.is_finite());
        let largest =
            values.iter().fold(0.0f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        // The exponent field of an f32 is biased by 127; subnormal numbers are far below the least exponent.
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        if !finite || exponent > *Self::EXPONENTS.end() {
            return None;
        }
        if exponent < *Self::EXPONENTS.start() {
            return Some(Scaled { x: [0.0; N], unit: 1.0 });
        }
        let power = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
        let inverse = power(-exponent);
        Some(Scaled { x: values.map(|x| x * inverse), unit: power(exponent) })
    }

    /// The field of a scale or offset; `None` if it does not fit.
    fn field(&self, value: f32) -> Option<Field> {
        let half = f16::from_f32(value * self.unit);
        half.is_finite().then(|| Field { bytes: half.to_le_bytes(), value: half.to_f32() / self.unit })
    }
}
