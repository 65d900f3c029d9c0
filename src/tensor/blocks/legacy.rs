//! The 32-element formats with one scale a block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use bytemuck::{Pod, Zeroable};

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

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && size_of::<BlockQ4_1>() == 20);
const _: () = assert!(size_of::<BlockQ5_0>() == 22 && size_of::<BlockQ5_1>() == 24);
const _: () = assert!(size_of::<BlockQ8_0>() == 34);
