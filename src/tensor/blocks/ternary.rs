//! Formats whose elements are −1, 0 or 1 times one scale a block: TQ1_0, TQ2_0.

use bytemuck::{Pod, Zeroable};

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

const _: () = assert!(size_of::<BlockTq1_0>() == 54 && size_of::<BlockTq2_0>() == 66);
