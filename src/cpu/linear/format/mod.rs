//! The properties of block formats that integer products use.

mod fp4;
mod iq4;
mod k_quants;
mod lattice;
mod legacy;
mod low_bit;

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512::Registers};
use crate::cpu::activations::CHUNK;
pub(super) use crate::tensor::dtype::for_every_format;
use crate::tensor::{DType, blocks};

/// Rows in a panel, one per lane of a 512-bit register.
pub(super) const PANEL: usize = 16;

/// [`CHUNK`] adjacent weights of a row: `weight = scale·(q - OFFSET) - min`.
///
/// A scale and a minimum cover 32 weights, so that the first eight entries are used; in [`Format::FINE`] formats they
/// cover 16 weights, and all sixteen entries are used.
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

/// [`CHUNK`] adjacent weights of each of [`PANEL`] rows; four weights of row 0, four of row 1, and so on.
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
/// Implemented for the block's struct.
pub(super) trait Format: Sized {
    /// The format's dtype.
    const DTYPE: DType;
    /// The value subtracted from a stored integer: 0 or a power of two.
    const OFFSET: u8;
    /// The largest stored integer.
    #[cfg(any(target_arch = "x86_64", test))]
    const CODES: usize = match Self::OFFSET {
        0..=16 => 31,
        32 => 63,
        _ => 255,
    };
    /// True if a scale covers 16 weights instead of 32.
    const FINE: bool;
    /// True if there are minimums.
    const MIN: bool;
    /// The blocks of [`CHUNK`] weights; made of bytes, so that they need no alignment.
    type Chunk: bytemuck::Pod;
    /// Kernels access chunks in place, at any address.
    #[cfg(target_arch = "x86_64")]
    const UNALIGNED: () = assert!(align_of::<Self::Chunk>() == 1);

    /// Unpacks a chunk. `half` converts an f16 exactly, in the instruction set's own way.
    ///
    /// Scales and minimums are exact: a half times an integer of at most 8 bits, or times an integer and a power of
    /// two. The loops are simple, so that the compiler vectorizes them for the instruction set of the caller.
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32);

    /// Unpacks a chunk with AVX2. Overridden only where the compiler cannot vectorize.
    ///
    /// # Safety
    /// The machine has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        Self::unpack(chunk, out, |bytes| avx2::half(bytes));
    }

    /// Unpacks a chunk into registers; by default through memory.
    ///
    /// # Safety
    /// The machine has AVX-512, and `chunk` points to a whole chunk at any address.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        let mut unpacked = Unpacked::ZERO;
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them. AVX-512 implies
        // AVX2.
        unsafe { Self::unpack_avx2(&*chunk, &mut unpacked) };
        Registers::load(&unpacked)
    }
}

/// True if a format is multiplied as integers.
pub(super) fn is_integer(dtype: DType) -> bool {
    macro_rules! any {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => { matches!(dtype, $(DType::$name)|*) };
    }
    for_every_format!(any)
}

/// True if a block format has minimums.
pub(super) fn has_minimums(dtype: DType) -> bool {
    macro_rules! any {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
            match dtype {
                $(DType::$name => <blocks::$block as Format>::MIN,)*
                _ => false,
            }
        };
    }
    for_every_format!(any)
}
