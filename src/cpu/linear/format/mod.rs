//! What an integer product needs to know of a block format.

mod fp4;
mod iq4;
mod k_quants;
mod lattice;
mod legacy;
mod low_bit;

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512::Registers};
use crate::cpu::activations::CHUNK;
use crate::tensor::DType;
pub(super) use crate::tensor::dtype::for_every_format;

/// Rows in a panel: one for each lane of a 512-bit register.
pub(super) const PANEL: usize = 16;

/// [`CHUNK`] neighbouring weights of a row: `weight = scale·(q - OFFSET) - min`.
///
/// A scale and a minimum belong to 32 weights or, in [`Format::FINE`] formats, to 16; then all
/// sixteen entries count, otherwise the first eight.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Unpacked {
    pub(super) q: [u8; CHUNK],
    pub(super) scale: [f32; CHUNK / 16],
    pub(super) min: [f32; CHUNK / 16],
}

impl Unpacked {
    pub(super) const ZERO: Unpacked =
        Unpacked { q: [0; CHUNK], scale: [0.0; CHUNK / 16], min: [0.0; CHUNK / 16] };
}

/// [`CHUNK`] neighbouring weights of each of [`PANEL`] rows, row by row within four weights.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct PanelChunk {
    /// Weights 4i to 4i+3 of row r are `q[i][r]`.
    pub(super) q: [[[u8; 4]; PANEL]; CHUNK / 4],
    pub(super) scale: [[f32; PANEL]; CHUNK / 16],
    pub(super) min: [[f32; PANEL]; CHUNK / 16],
}

/// A block format whose values are scales times small integers.
///
/// It is implemented for the struct of its block.
pub(super) trait Format: Sized {
    /// Its name.
    const DTYPE: DType;
    /// What is subtracted from a stored integer: 0 or a power of two.
    const OFFSET: u8;
    /// The largest integer that is stored.
    #[cfg(any(target_arch = "x86_64", test))]
    const CODES: usize = match Self::OFFSET {
        0..=16 => 31,
        32 => 63,
        _ => 255,
    };
    /// Whether 16 weights share a scale, not 32.
    const FINE: bool;
    /// Whether there are minimums.
    const MIN: bool;
    /// The blocks of [`CHUNK`] weights; made of bytes, so that they may lie at any address.
    type Chunk: bytemuck::Pod;
    /// Checked where kernels look at chunks in place.
    #[cfg(target_arch = "x86_64")]
    const UNALIGNED: () = assert!(align_of::<Self::Chunk>() == 1);

    /// Unpacks a chunk. `half` converts an f16, exactly: each instruction set has its own way.
    ///
    /// Scales and minimums are exact: a half times an integer of at most 8 bits, or one and a power of two. The loops are simple
    /// ones that the compiler vectorizes for the instruction set of the caller.
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32);

    /// Unpacks a chunk with AVX2. Only what the compiler cannot vectorize needs code of its own.
    ///
    /// # Safety
    /// The machine has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        Self::unpack(chunk, out, |bytes| avx2::half(bytes));
    }

    /// Unpacks a chunk into registers, by way of memory if there is no better one.
    ///
    /// # Safety
    /// The machine has AVX-512, and `chunk` points to a whole chunk at any address.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        let mut unpacked = Unpacked::ZERO;
        // SAFETY: blocks are made of bytes, so any address will do; the caller has all of them. AVX-512 has AVX2.
        unsafe { Self::unpack_avx2(&*chunk, &mut unpacked) };
        Registers::load(&unpacked)
    }
}

/// Whether a format is multiplied as integers.
pub(super) fn is_integer(dtype: DType) -> bool {
    macro_rules! any {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => { matches!(dtype, $(DType::$name)|*) };
    }
    for_every_format!(any)
}
