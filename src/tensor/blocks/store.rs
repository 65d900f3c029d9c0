//! Values to blocks in memory that is written while a model runs: nothing fails and nothing is allocated.

use super::quantize::Quantize;
use super::{Block, BlockQ4_0, BlockQ8_0};

/// A block format that rows of a KV cache can be kept in.
pub trait Store<const N: usize>: Block<N> {
    /// The block nearest to the values, as [`quantize`](super::quantize()) rounds them. Where a value is not finite, or
    /// too large for the f16 scale, every element of the block reads as not a number: its scale is infinite, and
    /// every code stands for 0.
    fn store(values: &[f32; N]) -> Self;
}

/// An infinite scale, f16.
const INFINITE: [u8; 2] = [0x00, 0x7C];

/// The block of values that have one.
fn nearest<B: Quantize<N>, const N: usize>(values: &[f32; N]) -> Option<B> {
    values.iter().all(|value| value.is_finite()).then(|| B::quantize(values)).flatten()
}

impl Store<32> for BlockQ8_0 {
    fn store(values: &[f32; 32]) -> BlockQ8_0 {
        nearest(values).unwrap_or(BlockQ8_0 { d: INFINITE, qs: [0; 32] })
    }
}

impl Store<32> for BlockQ4_0 {
    fn store(values: &[f32; 32]) -> BlockQ4_0 {
        nearest(values).unwrap_or(BlockQ4_0 { d: INFINITE, qs: [0x88; 16] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quantize;
    use super::*;
    use crate::tensor::DType;

    fn values<B: Store<32>>(row: &[f32; 32]) -> [f32; 32] {
        let mut out = [0.0; 32];
        B::store(row).dequantize(&mut out);
        out
    }

    #[test]
    fn what_has_no_block_reads_as_not_a_number() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e10, f32::MIN] {
            let mut row = [0.25; 32];
            row[17] = wrong;
            assert!(values::<BlockQ8_0>(&row).iter().all(|x| x.is_nan()), "{wrong}");
            assert!(values::<BlockQ4_0>(&row).iter().all(|x| x.is_nan()), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn all_else_is_quantized(row in prop::array::uniform32(-1e5f32..1e5)) {
            for (dtype, block) in [
                (DType::Q8_0, bytemuck::bytes_of(&BlockQ8_0::store(&row)).to_vec()),
                (DType::Q4_0, bytemuck::bytes_of(&BlockQ4_0::store(&row)).to_vec()),
            ] {
                let mut wanted = Vec::new();
                quantize(dtype, &row, &mut wanted).unwrap();
                prop_assert_eq!(block, wanted);
            }
        }
    }
}
