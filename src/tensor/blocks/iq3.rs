//! 3-bit formats whose codes are points of a lattice, four elements a point: IQ3_XXS, IQ3_S.
//!
//! A grid index picks four magnitudes and a byte of signs serves two neighbouring points (bit `j` set:
//! element `j` of the eight is negative).

use bytemuck::{Pod, Zeroable};

use super::iq_grids::{IQ3_S_GRID, IQ3_XXS_GRID, signed};
use super::iq2::signs_of_7_bits;
use super::lattice::Lattice;
use super::planes::{OnDevice, Plane, plane_list};

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
    /// (see [`signs_of_7_bits`]), bits 28..32 are `s`.
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

/// Two neighbouring points as one run of eight magnitudes.
#[inline(always)]
fn join([a, b, c, d]: [i8; 4], [e, f, g, h]: [i8; 4]) -> [i8; 8] {
    [a, b, c, d, e, f, g, h]
}

impl BlockIq3Xxs {
    /// Signs and scale bits of group `g` < 8, elements `32·g..32·g + 32`.
    #[inline(always)]
    pub fn group_bits(&self, g: usize) -> u32 {
        u32::from_le_bytes(self.scales_signs.as_chunks().0[g])
    }
}

impl BlockIq3S {
    /// Grid index of point `p` < 64, elements `4·p..4·p + 4`.
    #[inline(always)]
    pub fn index(&self, p: usize) -> usize {
        usize::from(self.qs[p]) | usize::from(self.qh[p / 8] >> (p % 8) & 1) << 8
    }
}

impl OnDevice for BlockIq3Xxs {
    const PLANES: &'static [Plane] = plane_list!(BlockIq3Xxs: codes = qs, rest = scales_signs, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq3Xxs {
    const FINE: bool = false;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let [a, b] = [self.qs[2 * p], self.qs[2 * p + 1]].map(|index| IQ3_XXS_GRID[usize::from(index)]);
        signed(&join(a, b), signs_of_7_bits((self.group_bits(p / 4) >> (p % 4 * 7)) as u8))
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        d * (0.5 + (self.group_bits(t / 2) >> 28) as f32) * 0.5
    }
}

impl OnDevice for BlockIq3S {
    const PLANES: &'static [Plane] =
        plane_list!(BlockIq3S: codes = qs, signs = signs, high = qh, scales = scales, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq3S {
    const FINE: bool = false;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let magnitudes = join(IQ3_S_GRID[self.index(2 * p)], IQ3_S_GRID[self.index(2 * p + 1)]);
        signed(&magnitudes, self.signs[p])
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        d * f32::from(1 + 2 * (self.scales[t / 4] >> (t / 2 % 2 * 4) & 15))
    }
}
