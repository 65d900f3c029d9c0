//! The 32-element formats with one scale a block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use bytemuck::{Pod, Zeroable};

use super::planes::{OnDevice, Plane, plane_list};
use super::{Block, f16_field};

/// Q4_0, 32 elements in 18 bytes: `x[i] = d · (q[i] − 8)`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Byte `j`: bits 0..4 hold `q[j]`, bits 4..8 hold `q[j + 16]`.
    pub qs: [u8; 16],
}

/// Q4_1, 32 elements in 20 bytes: `x[i] = d · q[i] + m`, `q` of 4 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Offset, f16: the value of `q = 0`.
    pub m: [u8; 2],
    /// Byte `j`: bits 0..4 hold `q[j]`, bits 4..8 hold `q[j + 16]`.
    pub qs: [u8; 16],
}

/// Q5_0, 32 elements in 22 bytes: `x[i] = d · (q[i] − 16)`, `q` of 5 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// A little-endian u32: its bit `i` is bit 4 of `q[i]`.
    pub qh: [u8; 4],
    /// Low four bits. Byte `j`: bits 0..4 belong to `q[j]`, bits 4..8 to `q[j + 16]`.
    pub qs: [u8; 16],
}

/// Q5_1, 32 elements in 24 bytes: `x[i] = d · q[i] + m`, `q` of 5 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Offset, f16: the value of `q = 0`.
    pub m: [u8; 2],
    /// A little-endian u32: its bit `i` is bit 4 of `q[i]`.
    pub qh: [u8; 4],
    /// Low four bits. Byte `j`: bits 0..4 belong to `q[j]`, bits 4..8 to `q[j + 16]`.
    pub qs: [u8; 16],
}

/// Q8_0, 32 elements in 34 bytes: `x[i] = d · q[i]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// `q[i]`, signed.
    pub qs: [i8; 32],
}

impl OnDevice for BlockQ4_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ4_0: codes = qs, scale = d);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockQ4_0 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = f16_field(self.d);
        for (j, byte) in self.qs.into_iter().enumerate() {
            out[j] = d * f32::from((byte & 15) as i8 - 8);
            out[j + 16] = d * f32::from((byte >> 4) as i8 - 8);
        }
    }
}

impl OnDevice for BlockQ4_1 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ4_1: codes = qs, scale = d..m);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockQ4_1 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (f16_field(self.d), f16_field(self.m));
        for (j, byte) in self.qs.into_iter().enumerate() {
            out[j] = d * f32::from(byte & 15) + m;
            out[j + 16] = d * f32::from(byte >> 4) + m;
        }
    }
}

/// Eight bytes that are 16 where the bit of `bits` is set and 0 where it is not.
#[inline(always)]
fn spread_to_bit_4(bits: u8) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Byte j keeps bit j alone; adding 127 then sets its top bit if there is one, without a carry.
    let picked = (u64::from(bits) * ONES) & 0x8040_2010_0804_0201;
    (((picked + 0x7F * ONES) & (0x80 * ONES)) >> 3).to_le_bytes()
}

/// The 32 codes of a 5-bit block, 0..32 each.
#[inline(always)]
fn codes_of_5_bits(qh: [u8; 4], qs: [u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (codes, bits) in codes.as_chunks_mut().0.iter_mut().zip(qh) {
        *codes = spread_to_bit_4(bits);
    }
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(qs) {
        *low |= byte & 15;
        *high |= byte >> 4;
    }
    codes
}

impl BlockQ5_0 {
    /// The codes `q`, 0..32 each.
    #[inline(always)]
    pub fn codes(&self) -> [u8; 32] {
        codes_of_5_bits(self.qh, self.qs)
    }
}

impl BlockQ5_1 {
    /// The codes `q`, 0..32 each.
    #[inline(always)]
    pub fn codes(&self) -> [u8; 32] {
        codes_of_5_bits(self.qh, self.qs)
    }
}

impl OnDevice for BlockQ5_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ5_0: codes = qs, high = qh, scale = d);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockQ5_0 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = f16_field(self.d);
        *out = self.codes().map(|q| d * f32::from(q as i8 - 16));
    }
}

impl OnDevice for BlockQ5_1 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ5_1: codes = qs, high = qh, scale = d..m);
    const VECTORS: usize = 2;
}

impl Block<32> for BlockQ5_1 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        let (d, m) = (f16_field(self.d), f16_field(self.m));
        *out = self.codes().map(|q| d * f32::from(q) + m);
    }
}

impl OnDevice for BlockQ8_0 {
    const PLANES: &'static [Plane] = plane_list!(BlockQ8_0: codes = qs, scale = d);
    const VECTORS: usize = 1;
}

impl Block<32> for BlockQ8_0 {
    fn dequantize(&self, out: &mut [f32; 32]) {
        let d = f16_field(self.d);
        *out = self.qs.map(|q| d * f32::from(q));
    }
}
