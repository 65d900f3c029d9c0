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
pub(crate) use iq_grids::lattice_points;
pub(crate) use iq1::{BlockIq1M, BlockIq1S};
pub(crate) use iq2::{BlockIq2S, BlockIq2Xs, BlockIq2Xxs};
pub(crate) use iq3::{BlockIq3S, BlockIq3Xxs};
pub(crate) use iq4::{BlockIq4Nl, BlockIq4Xs, IQ4_VALUES};
pub(crate) use k_quants::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
pub(crate) use lattice::Lattice;
pub(crate) use legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
pub(crate) use low_bit::{BlockQ1_0, BlockQ2_0};
pub(crate) use planes::{Plane, planes, to_planes, vectors};
pub use quantize::{WRITABLE, quantize};
pub(crate) use store::Store;
pub(crate) use ternary::{BlockTq1_0, BlockTq2_0, ternary_digit};

use bytemuck::Pod;
use half::f16;

use super::DType;
use super::dtype::for_every_format;

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

/// How each element type is decoded. A block whose struct does not have the sizes of its row in the table of element types
/// stops the compilation.
fn decoder(dtype: DType) -> Option<Decode> {
    macro_rules! of {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
            match dtype {
                DType::F32 => plain::decode_f32,
                DType::F16 => plain::decode_f16,
                DType::BF16 => plain::decode_bf16,
                DType::I32 => return None,
                $(DType::$name => {
                    const { assert!(size_of::<$block>() == $bytes && align_of::<$block>() == 1) };
                    decode::<$block, $elements>
                })*
            }
        };
    }
    Some(for_every_format!(of))
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
