//! 3-bit formats whose codes are points of a lattice, four elements a point: IQ3_XXS, IQ3_S.
//!
//! A grid index picks four magnitudes and a byte of signs serves two neighbouring points (bit `j` set:
//! element `j` of the eight is negative).

use bytemuck::{Pod, Zeroable};

/// IQ3_XXS, 256 elements in 98 bytes; the scale of 32 elements is `d · (0.5 + s) / 2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq3Xxs {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Byte `p`: index of the grid point of elements `4·p..4·p + 4`.
    pub qs: [u8; 64],
    /// Eight little-endian u32. Number `g` belongs to elements `32·g..32·g + 32`: bits
    /// `7·k..7·k + 7` give the signs of its elements `8·k..8·k + 8`
    /// (see [`signs_of_7_bits`](super::iq2::signs_of_7_bits)), bits 28..32 are `s`.
    pub scales_signs: [u8; 32],
}

/// IQ3_S, 256 elements in 110 bytes; the scale of 32 elements is `d · (1 + 2·s)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq3S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Byte `p`: bits 0..8 of the 9-bit index of the grid point of elements `4·p..4·p + 4`.
    pub qs: [u8; 64],
    /// Bit 8 of the index of point `p` is bit `p % 8` of byte `p / 8`.
    pub qh: [u8; 8],
    /// Byte `p`: signs of elements `8·p..8·p + 8`.
    pub signs: [u8; 32],
    /// Byte `t`: bits 0..4 hold `s` of elements `64·t..64·t + 32`, bits 4..8 that of the next 32.
    pub scales: [u8; 4],
}

const _: () = assert!(size_of::<BlockIq3Xxs>() == 98 && size_of::<BlockIq3S>() == 110);
