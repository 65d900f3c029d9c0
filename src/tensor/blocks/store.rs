//! Rounding of values to blocks while a model runs, for KV caches: it does not fail, allocate, or search for the best
//! scale as `quantize` does. A GPU writes the same bits (`kernels/kv_write.hip`).

use half::f16;

use super::{Block, BlockQ4_0, BlockQ8_0};

/// A block format of a KV cache.
pub trait Store<const N: usize>: Block<N> {
    /// The block whose scale maps the largest value to the last code, with the other values rounded to the nearest
    /// code. If a value is not finite, or too large for the f16 scale, every element of the block reads as NaN: its
    /// scale is infinite, and every code is that of 0.
    fn store(values: &[f32; N]) -> Self;
}

/// An infinite scale, f16.
const INFINITE: [u8; 2] = [0x00, 0x7C];

/// The scale as a field of the block and its inverse, 0 for a scale of 0; `None` if the values have no scale.
fn scale(values: &[f32; 32], d: f32) -> Option<([u8; 2], f32)> {
    let field = f16::from_f32(d);
    let fits = field.is_finite() && values.iter().all(|value| value.is_finite());
    fits.then(|| (field.to_le_bytes(), if d == 0.0 { 0.0 } else { 1.0 / d }))
}

/// The value of largest magnitude; the first of several.
fn extreme(values: &[f32; 32]) -> f32 {
    values.iter().fold(0.0, |extreme: f32, &x| if x.abs() > extreme.abs() { x } else { extreme })
}

impl Store<32> for BlockQ8_0 {
    fn store(values: &[f32; 32]) -> BlockQ8_0 {
        match scale(values, extreme(values).abs() / 127.0) {
            Some((d, inverse)) => BlockQ8_0 { d, qs: values.map(|x| (x * inverse).round() as i8) },
            None => BlockQ8_0 { d: INFINITE, qs: [0; 32] },
        }
    }
}

impl Store<32> for BlockQ4_0 {
    fn store(values: &[f32; 32]) -> BlockQ4_0 {
        let Some((d, inverse)) = scale(values, extreme(values) / -8.0) else {
            return BlockQ4_0 { d: INFINITE, qs: [0x88; 16] };
        };
        // The conversion truncates and saturates; adding a half rounds to the nearest.
        let code = |x: f32| ((x * inverse + 8.5) as u8).min(15);
        BlockQ4_0 { d, qs: std::array::from_fn(|j| code(values[j]) | code(values[j + 16]) << 4) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values<B: Store<32>>(row: &[f32; 32]) -> [f32; 32] {
        let mut out = [0.0; 32];
        B::store(row).dequantize(&mut out);
        out
    }

    #[test]
    fn values_that_do_not_fit_read_as_nan() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e10, f32::MIN] {
            let mut row = [0.25; 32];
            row[17] = wrong;
            assert!(values::<BlockQ8_0>(&row).iter().all(|x| x.is_nan()), "{wrong}");
            assert!(values::<BlockQ4_0>(&row).iter().all(|x| x.is_nan()), "{wrong}");
        }
    }

    proptest! {
        /// A step is the largest value over 127, or over 8; the scale rounds to f16, with a relative error of 2⁻¹¹,
        /// which the last code's value has as well. Q4_0's last code on the other side is 7, half a step short of 7.5.
        #[test]
        fn finite_values_are_off_by_at_most_half_a_step(row in prop::array::uniform32(-1e5f32..1e5)) {
            let largest = row.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let rounding = largest * 2f32.powi(-11) + 1e-6;
            for (x, found) in row.iter().zip(values::<BlockQ8_0>(&row)) {
                prop_assert!((x - found).abs() <= largest / 127.0 * 0.501 + rounding, "{} for {}", found, x);
            }
            for (x, found) in row.iter().zip(values::<BlockQ4_0>(&row)) {
                prop_assert!((x - found).abs() <= largest / 8.0 * 1.001 + rounding, "{} for {}", found, x);
            }
        }
    }
}
