//! 2-bit formats whose codes are points of a lattice, eight elements a point: IQ2_XXS, IQ2_XS, IQ2_S.
//!
//! A grid index picks eight magnitudes, a byte of signs (bit `j` set: element `j` is negative) makes
//! them numbers, and a scale `d · (0.5 + s) / 4` with `s` of 4 bits makes them values.

use bytemuck::{Pod, Zeroable};

/// IQ2_XXS, 256 elements in 66 bytes; one scale for 32 elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2Xxs {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Eight bytes for each group of 32 elements. Bytes 0..4: indices of its four grid points, 8 bits
    /// each. Bytes 4..8, a little-endian u32: bits `7·k..7·k + 7` give the signs of point `k` (see
    /// [`signs_of_7_bits`]), bits 28..32 the group's `s`.
    pub qs: [u8; 64],
}

/// IQ2_XS, 256 elements in 74 bytes; one scale for 16 elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2Xs {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Thirty-two little-endian u16. Number `p` belongs to elements `8·p..8·p + 8`: bits 0..9 are the
    /// index of the grid point, bits 9..16 give its signs (see [`signs_of_7_bits`]).
    pub qs: [u8; 64],
    /// Byte `t`: bits 0..4 hold `s` of elements `32·t..32·t + 16`, bits 4..8 that of the next 16.
    pub scales: [u8; 8],
}

/// IQ2_S, 256 elements in 82 bytes; one scale for 16 elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq2S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Byte `p`: bits 0..8 of the 10-bit index of the grid point of elements `8·p..8·p + 8`.
    pub qs: [u8; 32],
    /// Byte `p`: signs of elements `8·p..8·p + 8`.
    pub signs: [u8; 32],
    /// Bits 8..10 of the indices: those of point `p` are bits `2·k..2·k + 2` of byte `p / 4`, where
    /// `k = p % 4`.
    pub qh: [u8; 8],
    /// Byte `t`: bits 0..4 hold `s` of elements `32·t..32·t + 16`, bits 4..8 that of the next 16.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIq2Xxs>() == 66 && size_of::<BlockIq2Xs>() == 74);
const _: () = assert!(size_of::<BlockIq2S>() == 82);

/// The eight signs that seven bits stand for: the number of negative elements is even, so the eighth
/// sign is the parity of the others. Bits above the seventh are ignored.
#[inline(always)]
pub const fn signs_of_7_bits(bits: u8) -> u8 {
    let bits = bits & 127;
    bits | ((bits.count_ones() & 1) as u8) << 7
}
