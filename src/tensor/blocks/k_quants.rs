//! The 256-element formats with two levels of scales: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! A block is cut into groups of 16 (Q2_K, Q3_K, Q6_K) or 32 (Q4_K, Q5_K) neighbours. A group has a
//! small integer scale, and in Q2_K, Q4_K and Q5_K a small integer min; the block's f16 `d` and
//! `dmin` turn them into real numbers.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, f16_field, groups};

/// Q2_K, 256 elements in 84 bytes: `x[i] = d·scale[i / 16] · q[i] − dmin·min[i / 16]`, `q` of 2 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ2K {
    /// Byte `g` belongs to elements `16·g..16·g + 16`: bits 0..4 hold the scale, bits 4..8 the min.
    pub scales: [u8; 16],
    /// Element `i = 128·h + 32·k + j` (`h` < 2, `k` < 4, `j` < 32) is bits `2·k..2·k + 2` of byte
    /// `32·h + j`.
    pub qs: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
}

/// Q3_K, 256 elements in 110 bytes: `x[i] = d·scale[i / 16] · (q[i] − 4)`, `q` of 3 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ3K {
    /// Bit 2 of `q`: element `i = 32·k + j` (`k` < 8, `j` < 32) is bit `k` of byte `j`.
    pub hmask: [u8; 32],
    /// Low two bits: element `i = 128·h + 32·k + j` (`h` < 2, `k` < 4, `j` < 32) is bits
    /// `2·k..2·k + 2` of byte `32·h + j`.
    pub qs: [u8; 64],
    /// Sixteen 6-bit scales with an offset of 32. Low four bits: byte `g` < 8 holds those of scale `g`
    /// in bits 0..4 and of scale `g + 8` in bits 4..8. High two bits: byte `8 + t` (`t` < 4) holds
    /// those of scales `t`, `t + 4`, `t + 8`, `t + 12`, from the lowest bits up.
    pub scales: [u8; 12],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

/// Q4_K, 256 elements in 144 bytes: `x[i] = d·scale[i / 32] · q[i] − dmin·min[i / 32]`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
    /// Eight 6-bit scales and eight 6-bit mins; see [`unpack_scales_mins`].
    pub scales: [u8; 12],
    /// Element `i = 64·h + 32·k + j` (`h` < 4, `k` < 2, `j` < 32) is bits `4·k..4·k + 4` of byte
    /// `32·h + j`.
    pub qs: [u8; 128],
}

/// Q5_K, 256 elements in 176 bytes: `x[i] = d·scale[i / 32] · q[i] − dmin·min[i / 32]`, `q` of 5 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
    /// Eight 6-bit scales and eight 6-bit mins; see [`unpack_scales_mins`].
    pub scales: [u8; 12],
    /// Bit 4 of `q`: element `i = 32·k + j` (`k` < 8, `j` < 32) is bit `k` of byte `j`.
    pub qh: [u8; 32],
    /// Low four bits: element `i = 64·h + 32·k + j` (`h` < 4, `k` < 2, `j` < 32) is bits
    /// `4·k..4·k + 4` of byte `32·h + j`.
    pub qs: [u8; 128],
}

/// Q6_K, 256 elements in 210 bytes: `x[i] = d·scale[i / 16] · (q[i] − 32)`, `q` of 6 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ6K {
    /// Low four bits: element `i = 128·h + 64·k + j` (`h` < 2, `k` < 2, `j` < 64) is bits
    /// `4·k..4·k + 4` of byte `64·h + j`.
    pub ql: [u8; 128],
    /// High two bits: element `i = 128·h + 32·k + j` (`h` < 2, `k` < 4, `j` < 32) is bits
    /// `2·k..2·k + 2` of byte `32·h + j`.
    pub qh: [u8; 64],
    /// `scales[g]` belongs to elements `16·g..16·g + 16`, signed.
    pub scales: [i8; 16],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

/// The eight scales and eight mins (0..64) of Q4_K and Q5_K from their twelve bytes.
///
/// For `t` < 4: bits 0..6 of byte `t` are scale `t`; bits 0..6 of byte `4 + t` are min `t`. Scale and
/// min `4 + t` are split: their low four bits are bits 0..4 and 4..8 of byte `8 + t`, their high two
/// bits are bits 6..8 of bytes `t` and `4 + t`.
#[inline(always)]
pub fn unpack_scales_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for t in 0..4 {
        let (s, m, low) = (packed[t], packed[4 + t], packed[8 + t]);
        scales[t] = s & 63;
        mins[t] = m & 63;
        scales[4 + t] = (low & 15) | (s >> 6 << 4);
        mins[4 + t] = (low >> 4) | (m >> 6 << 4);
    }
    (scales, mins)
}

impl BlockQ2K {
    /// The sixteen scales and sixteen mins, 0..16 each.
    #[inline(always)]
    pub fn scales_mins(&self) -> ([u8; 16], [u8; 16]) {
        (self.scales.map(|byte| byte & 15), self.scales.map(|byte| byte >> 4))
    }
}

impl BlockQ3K {
    /// The sixteen scales, −32..32.
    #[inline(always)]
    pub fn unpack_scales(&self) -> [i8; 16] {
        let mut scales = [0; 16];
        for (g, scale) in scales.iter_mut().enumerate() {
            let low = self.scales[g % 8] >> (g / 8 * 4) & 15;
            let high = self.scales[8 + g % 4] >> (g / 4 * 2) & 3;
            *scale = (low | high << 4) as i8 - 32;
        }
        scales
    }
}

impl BlockQ4K {
    /// The eight scales and eight mins, 0..64 each.
    #[inline(always)]
    pub fn scales_mins(&self) -> ([u8; 8], [u8; 8]) {
        unpack_scales_mins(&self.scales)
    }
}

impl BlockQ5K {
    /// The eight scales and eight mins, 0..64 each.
    #[inline(always)]
    pub fn scales_mins(&self) -> ([u8; 8], [u8; 8]) {
        unpack_scales_mins(&self.scales)
    }
}

impl OnDevice for BlockQ2K {
    const PLANES: &'static [Plane] = plane_list!(BlockQ2K: codes = qs, scales = scales, d = d..dmin);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockQ2K {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (f16_field(self.d), f16_field(self.dmin));
        let (scales, mins) = self.scales_mins();
        for (g, out) in groups::<16>(out).iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
            let (first, shift) = (g / 8 * 32 + g % 2 * 16, g / 2 % 4 * 2);
            for (out, byte) in out.iter_mut().zip(&self.qs[first..first + 16]) {
                *out = scale * f32::from(byte >> shift & 3) - min;
            }
        }
    }
}

impl OnDevice for BlockQ3K {
    const PLANES: &'static [Plane] = plane_list!(BlockQ3K: codes = qs, high = hmask, scales = scales, d = d);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockQ3K {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        let scales = self.unpack_scales();
        for (g, out) in groups::<16>(out).iter_mut().enumerate() {
            let scale = d * f32::from(scales[g]);
            let (half, shift) = (g % 2 * 16, g / 2 % 4 * 2);
            let low = &self.qs[g / 8 * 32 + half..][..16];
            let high = &self.hmask[half..half + 16];
            for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
                let q = low >> shift & 3 | (high >> (g / 2) & 1) << 2;
                *out = scale * f32::from(q as i8 - 4);
            }
        }
    }
}

impl OnDevice for BlockQ4K {
    const PLANES: &'static [Plane] = plane_list!(BlockQ4K: codes = qs, scales = scales, d = d..dmin);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockQ4K {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (f16_field(self.d), f16_field(self.dmin));
        let (scales, mins) = self.scales_mins();
        for (g, out) in groups::<32>(out).iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
            let (first, shift) = (g / 2 * 32, g % 2 * 4);
            for (out, byte) in out.iter_mut().zip(&self.qs[first..first + 32]) {
                *out = scale * f32::from(byte >> shift & 15) - min;
            }
        }
    }
}

impl OnDevice for BlockQ5K {
    const PLANES: &'static [Plane] =
        plane_list!(BlockQ5K: codes = qs, high = qh, scales = scales, d = d..dmin);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockQ5K {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let (d, dmin) = (f16_field(self.d), f16_field(self.dmin));
        let (scales, mins) = self.scales_mins();
        for (g, out) in groups::<32>(out).iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
            let (first, shift) = (g / 2 * 32, g % 2 * 4);
            for (out, (low, high)) in out.iter_mut().zip(self.qs[first..first + 32].iter().zip(&self.qh)) {
                let q = low >> shift & 15 | (high >> g & 1) << 4;
                *out = scale * f32::from(q) - min;
            }
        }
    }
}

impl OnDevice for BlockQ6K {
    const PLANES: &'static [Plane] = plane_list!(BlockQ6K: codes = ql, high = qh, scales = scales, d = d);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockQ6K {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        for (g, out) in groups::<16>(out).iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[g]);
            let low = &self.ql[g / 8 * 64 + g % 4 * 16..][..16];
            let high = &self.qh[g / 8 * 32 + g % 2 * 16..][..16];
            let (low_shift, high_shift) = (g / 4 % 2 * 4, g / 2 % 4 * 2);
            for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
                let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                *out = scale * f32::from(q as i8 - 32);
            }
        }
    }
}
