//! 4-bit floating point (E2M1) with shared scales of 8 bits: MXFP4, NVFP4.
//!
//! Source: OCP Microscaling Formats (MX) specification 1.0 for E2M1 and E8M0; NVFP4 scales are E4M3
//! without a sign. The table holds twice the E2M1 values so that they are integers; the scale
//! functions return half the scale to make up for it.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, groups};

/// Twice the value of each E2M1 code. Code 8, minus zero, counts as zero.
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// MXFP4, 32 elements in 17 bytes: `x[i] = half_scale · E2M1_DOUBLED[q[i]]`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockMxfp4 {
    /// Scale, E8M0; see [`half_e8m0`].
    pub e: u8,
    /// Byte `j`: bits 0..4 hold `q[j]`, bits 4..8 hold `q[j + 16]`.
    pub qs: [u8; 16],
}

/// NVFP4, 64 elements in 36 bytes: `x[i] = half_scale[i / 16] · E2M1_DOUBLED[q[i]]`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockNvfp4 {
    /// Byte `g`: scale of elements `16·g..16·g + 16`, E4M3 without a sign; see [`half_ue4m3`].
    pub d: [u8; 4],
    /// Element `i = 16·g + 8·k + j` (`g` < 4, `k` < 2, `j` < 8) is bits `4·k..4·k + 4` of byte
    /// `8·g + j`.
    pub qs: [u8; 32],
}

/// Half of an E8M0 scale: `2^(e − 128)`. Subnormal for `e` < 2, so that every code is a number.
#[inline(always)]
pub const fn half_e8m0(e: u8) -> f32 {
    // f32 holds 2^(e − 128) as exponent field e − 1, or as a mantissa bit where that would be below 1.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e as u32 - 1) << 23 })
}

/// Half of an E4M3 scale without a sign (bias 7, subnormals at exponent 0). Bit 7 is ignored; code
/// 0x7F, not a number, counts as zero.
#[inline(always)]
pub const fn half_ue4m3(code: u8) -> f32 {
    if code == 0x7F {
        return 0.0;
    }
    let (exponent, mantissa) = (code >> 3 & 15, code & 7);
    if exponent == 0 {
        // Units of 2^-9, halved.
        return mantissa as f32 * f32::from_bits((127 - 10) << 23);
    }
    // Exponent field: e − 7 + 127, one less for the half.
    f32::from_bits((exponent as u32 + 119) << 23 | (mantissa as u32) << 20)
}

/// Values of the low nibbles of all bytes, then of the high ones.
#[inline(always)]
fn write_codes(out: &mut [f32], half_scale: f32, bytes: &[u8]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = half_scale * f32::from(E2M1_DOUBLED[usize::from(byte & 15)]);
        *high = half_scale * f32::from(E2M1_DOUBLED[usize::from(byte >> 4)]);
    }
}

impl OnDevice for BlockMxfp4 {
    const PLANES: &'static [Plane] = plane_list!(BlockMxfp4: codes = qs, scale = e);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockMxfp4 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        write_codes(out, half_e8m0(self.e), &self.qs);
    }
}

impl OnDevice for BlockNvfp4 {
    const PLANES: &'static [Plane] = plane_list!(BlockNvfp4: codes = qs, scales = d);
    const VECTORS: usize = 2;
}

impl Block<64> for BlockNvfp4 {
    fn dequantize(&self, out: &mut [f32; 64]) {
        let parts = groups::<16>(out).iter_mut().zip(self.qs.as_chunks::<8>().0);
        for ((out, bytes), d) in parts.zip(self.d) {
            write_codes(out, half_ue4m3(d), bytes);
        }
    }
}
