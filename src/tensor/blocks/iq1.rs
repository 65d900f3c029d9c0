//! Formats of less than two bits whose codes are points of a lattice, eight elements a point: IQ1_S,
//! IQ1_M.
//!
//! A grid index picks eight numbers of −1, 0, 1; a value is `scale · (number ± 1/8)`, where one bit
//! chooses the sign of the shift.

use bytemuck::{Pod, Zeroable};

use super::iq_grids::IQ1_GRID;
use super::{Block, f16_field, groups};

/// The shift that is added to or taken from a point's numbers.
pub const IQ1_DELTA: f32 = 0.125;

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

const _: () = assert!(size_of::<BlockIq1S>() == 50 && size_of::<BlockIq1M>() == 56);

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

    /// The scale of the scales, put together from its four pieces.
    #[inline(always)]
    pub fn d(&self) -> f32 {
        let [a, b, c, d] = self.scale_words();
        half::f16::from_bits(a >> 12 | b >> 12 << 4 | c >> 12 << 8 | d >> 12 << 12).to_f32()
    }
}

impl BlockIq1M {
    /// Grid index of point `p` < 32, elements `8·p..8·p + 8`, and whether its shift is subtracted.
    #[inline(always)]
    pub fn point(&self, p: usize) -> (usize, bool) {
        let bits = self.qh[p / 2] >> (p % 2 * 4);
        (usize::from(self.qs[p]) | usize::from(bits & 7) << 8, bits & 8 != 0)
    }
}

/// The eight values of a point.
#[inline(always)]
fn write_point(out: &mut [f32; 8], scale: f32, index: usize, subtract: bool) {
    let shift = if subtract { -IQ1_DELTA } else { IQ1_DELTA };
    *out = IQ1_GRID[index].map(|number| scale * (f32::from(number) + shift));
}

impl Block<256> for BlockIq1S {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        for (g, out) in groups::<32>(out).iter_mut().enumerate() {
            let bits = self.group_bits(g);
            let scale = d * f32::from(1 + 2 * (bits >> 12 & 7));
            for (k, out) in groups::<8>(out).iter_mut().enumerate() {
                let index = usize::from(self.qs[4 * g + k]) | usize::from(bits >> (3 * k) & 7) << 8;
                write_point(out, scale, index, bits >> 15 != 0);
            }
        }
    }
}

impl Block<256> for BlockIq1M {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, words) = (self.d(), self.scale_words());
        for (p, out) in groups::<8>(out).iter_mut().enumerate() {
            let scale = d * f32::from(1 + 2 * (words[p / 8] >> (p / 2 % 4 * 3) & 7));
            let (index, subtract) = self.point(p);
            write_point(out, scale, index, subtract);
        }
    }
}
