//! Formats of one and two bits with one scale a block: Q1_0, Q2_0.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, f16_field, groups};

/// Q1_0, 128 elements in 18 bytes: `x[i]` is `d` where its bit is set and `−d` where it is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ1_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Element `i` is bit `i % 8` of byte `i / 8`.
    pub qs: [u8; 16],
}

/// Q2_0, 64 elements in 18 bytes: `x[i] = d · (q[i] − 1)`, `q` of 2 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ2_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Element `i = 4·j + k` is bits `2·k..2·k + 2` of byte `j`.
    pub qs: [u8; 16],
}

impl OnDevice for BlockQ1_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ1_0: codes = qs, d = d);
    const VECTORS: usize = 4;
}

impl Block<128> for BlockQ1_0 {
    fn dequantize(&self, out: &mut [f32; 128]) {
        let d = f16_field(self.d);
        for (out, byte) in groups::<8>(out).iter_mut().zip(self.qs) {
            for (k, out) in out.iter_mut().enumerate() {
                *out = if byte >> k & 1 == 1 { d } else { -d };
            }
        }
    }
}

impl OnDevice for BlockQ2_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ2_0: codes = qs, d = d);
    const VECTORS: usize = 4;
}

impl Block<64> for BlockQ2_0 {
    fn dequantize(&self, out: &mut [f32; 64]) {
        let d = f16_field(self.d);
        for (out, byte) in groups::<4>(out).iter_mut().zip(self.qs) {
            for (k, out) in out.iter_mut().enumerate() {
                *out = d * f32::from((byte >> (2 * k) & 3) as i8 - 1);
            }
        }
    }
}
