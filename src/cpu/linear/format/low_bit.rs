//! The one-bit and two-bit formats with one scale per block: TQ1_0, TQ2_0, Q1_0 and Q2_0. Codes count from 0 and
//! represent values from −1 up; those of Q1_0 are 0 and 2.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::k_quants::split_pairs;
use super::legacy::spread_bits;
use super::{Format, Unpacked};
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx512::{Registers, half, pairs32};
use crate::tensor::DType;
use crate::tensor::blocks::{BlockQ1_0, BlockQ2_0, BlockTq1_0, BlockTq2_0, ternary_digit};

/// Unpacks digit `N` of each byte.
#[inline(always)]
fn digits<const N: usize>(bytes: &[u8], out: &mut [u8]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = (ternary_digit(byte, N) + 1) as u8;
    }
}

impl Format for BlockTq1_0 {
    const DTYPE: DType = DType::TQ1_0;
    const OFFSET: u8 = 1;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = BlockTq1_0;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        let (first, rest) = chunk.qs.split_at(32);
        digits::<0>(first, &mut out.q[..32]);
        digits::<1>(first, &mut out.q[32..64]);
        digits::<2>(first, &mut out.q[64..96]);
        digits::<3>(first, &mut out.q[96..128]);
        digits::<4>(first, &mut out.q[128..160]);
        digits::<0>(rest, &mut out.q[160..176]);
        digits::<1>(rest, &mut out.q[176..192]);
        digits::<2>(rest, &mut out.q[192..208]);
        digits::<3>(rest, &mut out.q[208..224]);
        digits::<4>(rest, &mut out.q[224..240]);
        digits::<0>(&chunk.qh, &mut out.q[240..244]);
        digits::<1>(&chunk.qh, &mut out.q[244..248]);
        digits::<2>(&chunk.qh, &mut out.q[248..252]);
        digits::<3>(&chunk.qh, &mut out.q[252..]);
        out.scale = [half(chunk.d); 16];
    }
}

impl Format for BlockTq2_0 {
    const DTYPE: DType = DType::TQ2_0;
    const OFFSET: u8 = 1;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = BlockTq2_0;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        split_pairs(&chunk.qs, out);
        out.scale = [half(chunk.d); 16];
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        Registers { q: pairs32(&chunk.qs), scale: half(&chunk.d), min: _mm512_setzero_ps() }
    }
}

impl Format for BlockQ1_0 {
    const DTYPE: DType = DType::Q1_0;
    const OFFSET: u8 = 1;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockQ1_0; 2];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        let bytes = chunk.iter().flat_map(|block| block.qs);
        for (q, byte) in out.q.as_chunks_mut::<8>().0.iter_mut().zip(bytes) {
            *q = (spread_bits(byte) >> 6).to_le_bytes();
        }
        for (scale, block) in out.scale.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
            *scale = [half(block.d); 4];
        }
    }
}

impl Format for BlockQ2_0 {
    const DTYPE: DType = DType::Q2_0;
    const OFFSET: u8 = 1;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockQ2_0; 4];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        let bytes = chunk.iter().flat_map(|block| block.qs);
        for (q, byte) in out.q.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
            let nibbles = (u32::from(byte) | u32::from(byte) << 12) & 0x000f_000f;
            *q = ((nibbles | nibbles << 6) & 0x0303_0303).to_le_bytes();
        }
        for (scale, block) in out.scale.as_chunks_mut::<2>().0.iter_mut().zip(chunk) {
            *scale = [half(block.d); 2];
        }
    }
}
