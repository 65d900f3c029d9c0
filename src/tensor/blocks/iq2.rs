//! 2-bit formats whose codes are points of a lattice, eight elements a point: IQ2_XXS, IQ2_XS, IQ2_S.
//!
//! A grid index picks eight magnitudes, a byte of signs (bit `j` set: element `j` is negative) makes
//! them numbers, and a scale `d · (0.5 + s) / 4` with `s` of 4 bits makes them values.

use bytemuck::{Pod, Zeroable};

use super::iq_grids::{IQ2_S_GRID, IQ2_XS_GRID, IQ2_XXS_GRID, signed};
use super::lattice::Lattice;
use super::planes::{OnDevice, Plane, plane_list};

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

/// The eight signs that seven bits stand for: the number of negative elements is even, so the eighth
/// sign is the parity of the others. Bits above the seventh are ignored.
#[inline(always)]
pub const fn signs_of_7_bits(bits: u8) -> u8 {
    let bits = bits & 127;
    bits | ((bits.count_ones() & 1) as u8) << 7
}

/// The scale `d · (0.5 + s) / 4` of a group; only the low four bits of `s` count.
#[inline(always)]
fn group_scale(d: f32, s: u8) -> f32 {
    d * (0.5 + f32::from(s & 15)) * 0.25
}

impl BlockIq2Xxs {
    /// Group `g` < 8, elements `32·g..32·g + 32`: the four grid indices, and the signs and scale bits.
    #[inline(always)]
    pub fn group(&self, g: usize) -> ([u8; 4], u32) {
        let q = &self.qs.as_chunks::<8>().0[g];
        ([q[0], q[1], q[2], q[3]], u32::from_le_bytes([q[4], q[5], q[6], q[7]]))
    }
}

impl BlockIq2Xs {
    /// Grid index and signs of point `p` < 32, elements `8·p..8·p + 8`.
    #[inline(always)]
    pub fn point(&self, p: usize) -> (usize, u8) {
        let word = u16::from_le_bytes([self.qs[2 * p], self.qs[2 * p + 1]]);
        (usize::from(word & 511), signs_of_7_bits((word >> 9) as u8))
    }
}

impl BlockIq2S {
    /// Grid index and signs of point `p` < 32, elements `8·p..8·p + 8`.
    #[inline(always)]
    pub fn point(&self, p: usize) -> (usize, u8) {
        let high = self.qh[p / 4] >> (p % 4 * 2) & 3;
        (usize::from(self.qs[p]) | usize::from(high) << 8, self.signs[p])
    }
}

impl OnDevice for BlockIq2Xxs {
    const PLANES: &'static [Plane] = plane_list!(BlockIq2Xxs: codes = qs, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq2Xxs {
    const FINE: bool = false;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let (indices, bits) = self.group(p / 4);
        signed(&IQ2_XXS_GRID[usize::from(indices[p % 4])], signs_of_7_bits((bits >> (p % 4 * 7)) as u8))
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        group_scale(d, (self.group(t / 2).1 >> 28) as u8)
    }
}

impl OnDevice for BlockIq2Xs {
    const PLANES: &'static [Plane] = plane_list!(BlockIq2Xs: codes = qs, scales = scales, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq2Xs {
    const FINE: bool = true;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let (index, signs) = self.point(p);
        signed(&IQ2_XS_GRID[index], signs)
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        group_scale(d, self.scales[t / 2] >> (t % 2 * 4))
    }
}

impl OnDevice for BlockIq2S {
    const PLANES: &'static [Plane] = plane_list!(BlockIq2S: codes = qs..signs, rest = qh..scales, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq2S {
    const FINE: bool = true;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let (index, signs) = self.point(p);
        signed(&IQ2_S_GRID[index], signs)
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        group_scale(d, self.scales[t / 2] >> (t % 2 * 4))
    }
}
