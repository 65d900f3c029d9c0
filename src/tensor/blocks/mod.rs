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

pub mod fp4;
pub mod iq1;
pub mod iq2;
pub mod iq3;
pub mod iq4;
pub mod k_quants;
pub mod legacy;
pub mod low_bit;
pub mod ternary;

pub use fp4::{BlockMxfp4, BlockNvfp4};
pub use iq1::{BlockIq1M, BlockIq1S};
pub use iq2::{BlockIq2S, BlockIq2Xs, BlockIq2Xxs};
pub use iq3::{BlockIq3S, BlockIq3Xxs};
pub use iq4::{BlockIq4Nl, BlockIq4Xs};
pub use k_quants::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
pub use legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
pub use low_bit::{BlockQ1_0, BlockQ2_0};
pub use ternary::{BlockTq1_0, BlockTq2_0};

use half::f16;

/// Value of an f16 field of a block.
#[inline(always)]
pub fn f16_field(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

use super::DType;

/// Why blocks cannot be read as numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{dtype} blocks cannot be read as numbers")]
pub struct BlockError {
    /// The format.
    pub dtype: DType,
}

/// Reads blocks as F32. No block format is known here so far.
pub fn dequantize(dtype: DType, _: &[u8], _: &mut [f32]) -> Result<(), BlockError> {
    Err(BlockError { dtype })
}
