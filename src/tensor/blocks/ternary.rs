//! Formats whose elements are −1, 0 or 1 times one scale a block: TQ1_0, TQ2_0.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, f16_field, groups};

/// TQ1_0, 256 elements in 54 bytes: `x[i] = d · (t[i] − 1)`, `t` a base-3 digit.
///
/// A byte holds five digits as a fraction of 256, rounded up: digit `n` is the integer part of
/// `3 · frac(3ⁿ · byte / 256)`. In bytes: `((byte · 3ⁿ mod 256) · 3) >> 8`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockTq1_0 {
    /// Bytes 0..32: digit `n` < 5 of byte `j` is element `32·n + j`. Bytes 32..48: digit `n` < 5 of
    /// byte `32 + j` is element `160 + 16·n + j`.
    pub qs: [u8; 48],
    /// Digit `n` < 4 of byte `j` is element `240 + 4·n + j`.
    pub qh: [u8; 4],
    /// Scale, f16.
    pub d: [u8; 2],
}

/// TQ2_0, 256 elements in 66 bytes: `x[i] = d · (t[i] − 1)`, `t` of 2 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockTq2_0 {
    /// Element `i = 128·h + 32·k + j` (`h` < 2, `k` < 4, `j` < 32) is bits `2·k..2·k + 2` of byte
    /// `32·h + j`.
    pub qs: [u8; 64],
    /// Scale, f16.
    pub d: [u8; 2],
}

/// Powers of three, to bring digit `n` of a byte to the front.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// Digit `n` < 5 of a byte of TQ1_0, less one: −1, 0 or 1.
#[inline(always)]
pub const fn ternary_digit(byte: u8, n: usize) -> i8 {
    ((byte.wrapping_mul(POWERS[n]) as u16 * 3) >> 8) as i8 - 1
}

/// Writes one digit of each byte, first that of the first byte, for all digits in turn.
#[inline(always)]
fn write_digits(out: &mut [f32], d: f32, bytes: &[u8]) {
    for (n, out) in out.chunks_mut(bytes.len()).enumerate() {
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = d * f32::from(ternary_digit(byte, n));
        }
    }
}

impl OnDevice for BlockTq1_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockTq1_0: codes = qs, rest = qh, d = d);
    const VECTORS: usize = 2;
}

impl Block<256> for BlockTq1_0 {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        write_digits(&mut out[..160], d, &self.qs[..32]);
        write_digits(&mut out[160..240], d, &self.qs[32..]);
        write_digits(&mut out[240..], d, &self.qh);
    }
}

impl OnDevice for BlockTq2_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockTq2_0: codes = qs, d = d);
    const VECTORS: usize = 4;
}

impl Block<256> for BlockTq2_0 {
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = f16_field(self.d);
        for (g, out) in groups::<32>(out).iter_mut().enumerate() {
            let (first, shift) = (g / 4 * 32, g % 4 * 2);
            for (out, byte) in out.iter_mut().zip(&self.qs[first..first + 32]) {
                *out = d * f32::from((byte >> shift & 3) as i8 - 1);
            }
        }
    }
}
