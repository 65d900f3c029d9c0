//! The byte layout of every block format, and exact dequantization.
//!
//! This is the one place that knows which bits of a block hold which element: a struct per format,
//! the helpers that unpack its scales, and the tables that its codes point into. It knows element
//! types and bytes; it knows no tensor, no file and no instruction set.
//!
//! Every struct is made of bytes (alignment 1), so that blocks can be viewed in place at any address
//! of a memory-mapped file. Numbers wider than a byte are little-endian byte arrays.
//!
//! Notation in the layouts: `x[i]` is element `i` of the block, `bits a..b` of a byte count from the
//! least significant bit and include `a` but not `b`. Source of all layouts: the definitions of the
//! formats in ggml and their descriptions in the Python package `gguf` (`gguf/quants.py`).

mod error;
mod fp4;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod iq_grids;
mod iq_points;
mod k_quants;
mod lattice;
mod legacy;
mod low_bit;
mod plain;
mod planes;
mod quantize;
mod store;
mod ternary;
#[cfg(test)]
mod tests;

pub use error::BlockError;
pub(crate) use fp4::{BlockMxfp4, BlockNvfp4, E2M1_DOUBLED, half_e8m0, half_ue4m3};
pub(crate) use iq1::{BlockIq1M, BlockIq1S};
pub(crate) use iq2::{BlockIq2S, BlockIq2Xs, BlockIq2Xxs};
pub(crate) use iq3::{BlockIq3S, BlockIq3Xxs};
pub(crate) use iq4::{BlockIq4Nl, BlockIq4Xs, IQ4_VALUES};
pub(crate) use k_quants::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
pub(crate) use lattice::Lattice;
pub(crate) use legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
pub(crate) use low_bit::{BlockQ1_0, BlockQ2_0};
pub(crate) use planes::{planes, to_planes};
pub use quantize::{WRITABLE, quantize};
pub(crate) use store::Store;
pub(crate) use ternary::{BlockTq1_0, BlockTq2_0, ternary_digit};

use bytemuck::Pod;
use half::f16;

use super::DType;

/// A block of `N` elements.
pub(crate) trait Block<const N: usize>: Pod {
    /// Writes the elements' values, exactly: every product and sum is rounded as f32 arithmetic rounds
    /// it in the order of the format's definition.
    fn dequantize(&self, out: &mut [f32; N]);
}

/// Writes the values of a run of blocks of any real element type, plain types included.
///
/// `blocks` holds whole blocks without gaps; `out` has one place for each of their elements. Errors
/// name the sizes that do not fit, or I32, which has no real values.
pub fn dequantize(dtype: DType, blocks: &[u8], out: &mut [f32]) -> Result<(), BlockError> {
    let decode = decoder(dtype).ok_or(BlockError::NotReal { dtype })?;
    if !blocks.len().is_multiple_of(dtype.block_bytes()) {
        return Err(BlockError::PartialBytes { dtype, bytes: blocks.len(), block: dtype.block_bytes() });
    }
    let (count, elements) = (blocks.len() / dtype.block_bytes(), dtype.block_elements());
    if !out.len().is_multiple_of(elements) || out.len() / elements != count {
        return Err(BlockError::WrongLength { dtype, blocks: count, elements, values: out.len() });
    }
    decode(blocks, out);
    Ok(())
}

/// Decodes bytes into values; the caller has compared the lengths.
type Decode = fn(&[u8], &mut [f32]);

/// How each element type is decoded.
fn decoder(dtype: DType) -> Option<Decode> {
    Some(match dtype {
        DType::F32 => plain::decode_f32,
        DType::F16 => plain::decode_f16,
        DType::BF16 => plain::decode_bf16,
        DType::I32 => return None,
        DType::Q4_0 => decode::<BlockQ4_0, _>,
        DType::Q4_1 => decode::<BlockQ4_1, _>,
        DType::Q5_0 => decode::<BlockQ5_0, _>,
        DType::Q5_1 => decode::<BlockQ5_1, _>,
        DType::Q8_0 => decode::<BlockQ8_0, _>,
        DType::Q2_K => decode::<BlockQ2K, _>,
        DType::Q3_K => decode::<BlockQ3K, _>,
        DType::Q4_K => decode::<BlockQ4K, _>,
        DType::Q5_K => decode::<BlockQ5K, _>,
        DType::Q6_K => decode::<BlockQ6K, _>,
        DType::IQ1_S => decode::<BlockIq1S, _>,
        DType::IQ1_M => decode::<BlockIq1M, _>,
        DType::IQ2_XXS => decode::<BlockIq2Xxs, _>,
        DType::IQ2_XS => decode::<BlockIq2Xs, _>,
        DType::IQ2_S => decode::<BlockIq2S, _>,
        DType::IQ3_XXS => decode::<BlockIq3Xxs, _>,
        DType::IQ3_S => decode::<BlockIq3S, _>,
        DType::IQ4_NL => decode::<BlockIq4Nl, _>,
        DType::IQ4_XS => decode::<BlockIq4Xs, _>,
        DType::TQ1_0 => decode::<BlockTq1_0, _>,
        DType::TQ2_0 => decode::<BlockTq2_0, _>,
        DType::MXFP4 => decode::<BlockMxfp4, _>,
        DType::NVFP4 => decode::<BlockNvfp4, _>,
        DType::Q1_0 => decode::<BlockQ1_0, _>,
        DType::Q2_0 => decode::<BlockQ2_0, _>,
    })
}

fn decode<B: Block<N>, const N: usize>(blocks: &[u8], out: &mut [f32]) {
    // Blocks have alignment 1 and the bytes are whole blocks, so the view always exists.
    let blocks: &[B] = bytemuck::cast_slice(blocks);
    for (block, out) in blocks.iter().zip(groups(out)) {
        block.dequantize(out);
    }
}

/// The values as consecutive groups of `N`.
#[inline(always)]
fn groups<const N: usize>(values: &mut [f32]) -> &mut [[f32; N]] {
    values.as_chunks_mut().0
}

/// Value of an f16 field of a block.
#[inline(always)]
pub(crate) fn f16_field(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}
