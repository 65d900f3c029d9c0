//! The formats of 32 weights with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Eight blocks make a chunk.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{Format, Unpacked};
use crate::cpu::activations::GROUP;
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx512::{Registers, halves, halves_of_18, nibbles16, products};
use crate::tensor::DType;
use crate::tensor::blocks::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};

/// Unpacks nibbles: the low bits are the first half of a block.
#[inline(always)]
pub(super) fn split_nibbles(qs: &[u8; 16], out: &mut [u8]) {
    for (j, q) in qs.iter().enumerate() {
        out[j] = q & 15;
        out[16 + j] = q >> 4;
    }
}

/// Expands the bits of a byte to the highest bits of eight bytes, lowest bit first.
#[inline(always)]
pub(super) fn spread_bits(byte: u8) -> u64 {
    // Eight copies of the byte, each masked to one bit; adding 127 carries a set bit into the highest.
    let bits = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    (bits + 0x7f7f_7f7f_7f7f_7f7f) & 0x8080_8080_8080_8080
}

/// Sets bit 4 of every value whose bit is set in `high`.
#[inline(always)]
fn add_fifth_bits(high: [u8; 4], out: &mut [u8]) {
    for (high, out) in high.into_iter().zip(out.as_chunks_mut::<8>().0) {
        *out = (u64::from_le_bytes(*out) | spread_bits(high) >> 3).to_le_bytes();
    }
}

/// The fifth bits of two blocks, as a mask of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fifth_bits(first: [u8; 4], second: [u8; 4]) -> u64 {
    u64::from(u32::from_le_bytes(first)) | u64::from(u32::from_le_bytes(second)) << 32
}

impl Format for BlockQ4_0 {
    const DTYPE: DType = DType::Q4_0;
    const OFFSET: u8 = 8;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockQ4_0; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            split_nibbles(&block.qs, q);
            out.scale[i] = half(block.d);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        Registers {
            q: products(|i| nibbles16(&chunk[i].qs, &chunk[i + 1].qs)),
            scale: halves_of_18(chunk),
            min: _mm512_setzero_ps(),
        }
    }
}

impl Format for BlockQ4_1 {
    const DTYPE: DType = DType::Q4_1;
    const OFFSET: u8 = 0;
    const FINE: bool = false;
    const MIN: bool = true;
    type Chunk = [BlockQ4_1; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            split_nibbles(&block.qs, q);
            out.scale[i] = half(block.d);
            out.min[i] = -half(block.m);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        let min = halves(|i| chunk[i].m);
        Registers {
            q: products(|i| nibbles16(&chunk[i].qs, &chunk[i + 1].qs)),
            scale: halves(|i| chunk[i].d),
            min: _mm512_xor_ps(min, _mm512_set1_ps(-0.0)),
        }
    }
}

impl Format for BlockQ5_0 {
    const DTYPE: DType = DType::Q5_0;
    const OFFSET: u8 = 16;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockQ5_0; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            split_nibbles(&block.qs, q);
            add_fifth_bits(block.qh, q);
            out.scale[i] = half(block.d);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        Registers {
            q: products(|i| {
                let q = nibbles16(&chunk[i].qs, &chunk[i + 1].qs);
                let high = fifth_bits(chunk[i].qh, chunk[i + 1].qh);
                _mm512_mask_add_epi8(q, high, q, _mm512_set1_epi8(16))
            }),
            scale: halves(|i| chunk[i].d),
            min: _mm512_setzero_ps(),
        }
    }
}

impl Format for BlockQ5_1 {
    const DTYPE: DType = DType::Q5_1;
    const OFFSET: u8 = 0;
    const FINE: bool = false;
    const MIN: bool = true;
    type Chunk = [BlockQ5_1; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            split_nibbles(&block.qs, q);
            add_fifth_bits(block.qh, q);
            out.scale[i] = half(block.d);
            out.min[i] = -half(block.m);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        let min = halves(|i| chunk[i].m);
        Registers {
            q: products(|i| {
                let q = nibbles16(&chunk[i].qs, &chunk[i + 1].qs);
                let high = fifth_bits(chunk[i].qh, chunk[i + 1].qh);
                _mm512_mask_add_epi8(q, high, q, _mm512_set1_epi8(16))
            }),
            scale: halves(|i| chunk[i].d),
            min: _mm512_xor_ps(min, _mm512_set1_ps(-0.0)),
        }
    }
}

impl Format for BlockQ8_0 {
    const DTYPE: DType = DType::Q8_0;
    const OFFSET: u8 = 128;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockQ8_0; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            for (to, from) in q.iter_mut().zip(block.qs) {
                *to = from as u8 ^ 0x80;
            }
            out.scale[i] = half(block.d);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        let pair = |i: usize| {
            // SAFETY: `qs` has 32 bytes.
            let low = unsafe { _mm256_loadu_si256(chunk[i].qs.as_ptr().cast()) };
            // SAFETY: `qs` has 32 bytes.
            let high = unsafe { _mm256_loadu_si256(chunk[i + 1].qs.as_ptr().cast()) };
            let q = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            _mm512_xor_si512(q, _mm512_set1_epi8(-128))
        };
        Registers { q: products(pair), scale: halves(|i| chunk[i].d), min: _mm512_setzero_ps() }
    }
}
