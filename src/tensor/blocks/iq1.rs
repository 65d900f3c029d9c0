//! Formats of less than two bits whose codes are points of a lattice, eight elements a point: IQ1_S,
//! IQ1_M.
//!
//! A grid index picks eight numbers of −1, 0, 1; a value is `scale · (number ± 1/8)`, where one bit
//! chooses the sign of the shift. So that codes are integers, they are `8·number ± 1`, and scales an eighth.

use bytemuck::{Pod, Zeroable};

use super::iq_grids::IQ1_GRID;
use super::lattice::Lattice;
use super::planes::{OnDevice, Plane, plane_list};

/// IQ1_S, 256 elements in 50 bytes; the scale of 32 elements is `d · (1 + 2·s)`, `s` of 3 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq1S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Byte `p`: bits 0..8 of the 11-bit index of the grid point of elements `8·p..8·p + 8`.
    pub qs: [u8; 32],
    /// Eight little-endian u16. Number `g` belongs to elements `32·g..32·g + 32`: bits
    /// `3·k..3·k + 3` (`k` < 4) are bits 8..11 of the index of its point `k`, bits 12..15 are `s`, and
    /// bit 15 set means that the shift is subtracted.
    pub qh: [u8; 16],
}

/// IQ1_M, 256 elements in 56 bytes; the scale of 16 elements is `d · (1 + 2·s)`, `s` of 3 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIq1M {
    /// Byte `p`: bits 0..8 of the 11-bit index of the grid point of elements `8·p..8·p + 8`.
    pub qs: [u8; 32],
    /// Four bits for each point: byte `t` holds those of point `2·t` in bits 0..4 and of point
    /// `2·t + 1` in bits 4..8. The low three are bits 8..11 of the index; the fourth set means that
    /// the shift is subtracted.
    pub qh: [u8; 16],
    /// Four little-endian u16. Number `t` holds `s` of elements `64·t + 16·k..64·t + 16·k + 16`
    /// (`k` < 4) in bits `3·k..3·k + 3`. Its bits 12..16 are bits `4·t..4·t + 4` of the f16 `d`.
    pub scales: [u8; 8],
}

impl BlockIq1S {
    /// Number `g` < 8 of `qh`: index bits, scale and shift of elements `32·g..32·g + 32`.
    #[inline(always)]
    pub fn group_bits(&self, g: usize) -> u16 {
        u16::from_le_bytes([self.qh[2 * g], self.qh[2 * g + 1]])
    }
}

impl BlockIq1M {
    /// The four numbers of `scales`.
    #[inline(always)]
    pub fn scale_words(&self) -> [u16; 4] {
        let s = &self.scales;
        [[s[0], s[1]], [s[2], s[3]], [s[4], s[5]], [s[6], s[7]]].map(u16::from_le_bytes)
    }

    /// Grid index of point `p` < 32, elements `8·p..8·p + 8`, and whether its shift is subtracted.
    #[inline(always)]
    pub fn point(&self, p: usize) -> (usize, bool) {
        let bits = self.qh[p / 2] >> (p % 2 * 4);
        (usize::from(self.qs[p]) | usize::from(bits & 7) << 8, bits & 8 != 0)
    }
}

/// Eight times the shifted numbers of a point.
#[inline(always)]
fn shifted(index: usize, subtract: bool) -> [i8; 8] {
    let shift = if subtract { -1 } else { 1 };
    IQ1_GRID[index].map(|number| 8 * number + shift)
}

/// An eighth of the scale of a group.
#[inline(always)]
fn group_scale(d: f32, s: u16) -> f32 {
    d * f32::from(1 + 2 * (s & 7)) * 0.125
}

impl OnDevice for BlockIq1S {
    const PLANES: &'static [Plane] = plane_list!(BlockIq1S: codes = qs, high = qh, d = d);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq1S {
    const FINE: bool = false;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let bits = self.group_bits(p / 4);
        let high = usize::from(bits >> (p % 4 * 3) & 7);
        shifted(usize::from(self.qs[p]) | high << 8, bits >> 15 != 0)
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        self.d
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        group_scale(d, self.group_bits(t / 2) >> 12)
    }
}

impl OnDevice for BlockIq1M {
    const PLANES: &'static [Plane] = plane_list!(BlockIq1M: whole = qs..scales);
    const VECTORS: usize = 2;
}

impl Lattice for BlockIq1M {
    const FINE: bool = true;

    #[inline(always)]
    fn codes(&self, p: usize) -> [i8; 8] {
        let (index, subtract) = self.point(p);
        shifted(index, subtract)
    }

    #[inline(always)]
    fn scale_of_scales(&self) -> [u8; 2] {
        let [a, b, c, d] = self.scale_words();
        (a >> 12 | b >> 12 << 4 | c >> 12 << 8 | d >> 12 << 12).to_le_bytes()
    }

    #[inline(always)]
    fn scale(&self, d: f32, t: usize) -> f32 {
        group_scale(d, self.scale_words()[t / 4] >> (t % 4 * 3))
    }
}
