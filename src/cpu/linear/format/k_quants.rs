//! The formats with 256 weights and small scales of groups: Q2_K to Q6_K. A block is a chunk.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{Format, Unpacked};
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx512::{Registers, half, nibbles32, pairs32};
use crate::tensor::DType;
use crate::tensor::blocks::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};

/// `WIDTH` bits from bit `SHIFT` on of each byte. Uses constants and returns an array, since the compiler does not
/// vectorize variable shifts or loops whose input and output may overlap.
#[inline(always)]
fn bits<const SHIFT: u32, const WIDTH: u32>(bytes: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| bytes[i] >> SHIFT & ((1 << WIDTH) - 1))
}

/// Unpacks the low two bits of Q2_K and Q3_K, and the codes of TQ2_0.
#[inline(always)]
pub(super) fn split_pairs(qs: &[u8; 64], out: &mut Unpacked) {
    for (qs, out) in qs.as_chunks().0.iter().zip(out.q.chunks_exact_mut(128)) {
        out[..32].copy_from_slice(&bits::<0, 2>(qs));
        out[32..64].copy_from_slice(&bits::<2, 2>(qs));
        out[64..96].copy_from_slice(&bits::<4, 2>(qs));
        out[96..].copy_from_slice(&bits::<6, 2>(qs));
    }
}

/// Unpacks the low four bits of Q4_K and Q5_K.
#[inline(always)]
fn split_nibbles(qs: &[u8; 128], out: &mut Unpacked) {
    for (qs, out) in qs.as_chunks().0.iter().zip(out.q.chunks_exact_mut(64)) {
        out[..32].copy_from_slice(&bits::<0, 4>(qs));
        out[32..].copy_from_slice(&bits::<4, 4>(qs));
    }
}

/// Adds `1 << BIT` to every value whose bit is set: bit `i / 32` of byte `i % 32` of `high`.
#[inline(always)]
fn add_high_bits<const BIT: u32>(high: &[u8; 32], out: &mut Unpacked) {
    let high = [
        bits::<0, 1>(high),
        bits::<1, 1>(high),
        bits::<2, 1>(high),
        bits::<3, 1>(high),
        bits::<4, 1>(high),
        bits::<5, 1>(high),
        bits::<6, 1>(high),
        bits::<7, 1>(high),
    ];
    for (out, high) in out.q.as_chunks_mut::<32>().0.iter_mut().zip(high) {
        *out = std::array::from_fn(|i| out[i] | high[i] << BIT);
    }
}

/// Adds the high bits to the 64 values from `64·i` on; see [`add_high_bits`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_high_bits_avx512<const BIT: u32>(high: &[u8; 32], i: usize, q: __m512i) -> __m512i {
    // SAFETY: `high` has 32 bytes.
    let high = unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(high.as_ptr().cast())) };
    let (low, up) = (_mm256_set1_epi8((1u8 << (2 * i)) as i8), _mm256_set1_epi8((2u8 << (2 * i)) as i8));
    let wanted = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), up);
    _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(high, wanted), q, _mm512_set1_epi8(1 << BIT))
}

/// Scales and minimums of Q4_K and Q5_K.
#[inline(always)]
fn set_scales_mins((scales, mins): ([u8; 8], [u8; 8]), d: f32, dmin: f32, out: &mut Unpacked) {
    for i in 0..8 {
        out.scale[i] = d * f32::from(scales[i]);
        out.min[i] = dmin * f32::from(mins[i]);
    }
}

/// Scales and minimums in registers: `blocks::k_quants::unpack_scales_mins`, four bytes at a time.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn scales_mins_avx512(packed: &[u8; 12], d: &[u8; 2], dmin: &[u8; 2]) -> (__m512, __m512) {
    let four = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (s, m, low) = (four(0), four(4), four(8));
    let scales = (s & 0x3f3f_3f3f, (low & 0x0f0f_0f0f) | (s >> 2 & 0x3030_3030));
    let mins = (m & 0x3f3f_3f3f, (low >> 4 & 0x0f0f_0f0f) | (m >> 2 & 0x3030_3030));
    let floats = |(low, high): (u32, u32)| {
        let bytes = _mm_cvtsi64_si128((u64::from(low) | u64::from(high) << 32) as i64);
        _mm512_castps256_ps512(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)))
    };
    (_mm512_mul_ps(floats(scales), half(d)), _mm512_mul_ps(floats(mins), half(dmin)))
}

/// Sixteen small integers times a scale.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn scaled_bytes(bytes: __m128i, d: &[u8; 2]) -> __m512 {
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), half(d))
}

impl Format for BlockQ2K {
    const DTYPE: DType = DType::Q2_K;
    const OFFSET: u8 = 0;
    const FINE: bool = true;
    const MIN: bool = true;
    type Chunk = BlockQ2K;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        split_pairs(&chunk.qs, out);
        let (d, dmin) = (half(chunk.d), half(chunk.dmin));
        let (scales, mins) = chunk.scales_mins();
        out.scale = scales.map(|scale| d * f32::from(scale));
        out.min = mins.map(|min| dmin * f32::from(min));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        // SAFETY: there are 16 scales.
        let bytes = unsafe { _mm_loadu_si128(chunk.scales.as_ptr().cast()) };
        let low = _mm_and_si128(bytes, _mm_set1_epi8(15));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
        Registers {
            q: pairs32(&chunk.qs),
            scale: scaled_bytes(low, &chunk.d),
            min: scaled_bytes(high, &chunk.dmin),
        }
    }
}

impl Format for BlockQ3K {
    const DTYPE: DType = DType::Q3_K;
    const OFFSET: u8 = 4;
    const FINE: bool = true;
    const MIN: bool = false;
    type Chunk = BlockQ3K;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        split_pairs(&chunk.qs, out);
        add_high_bits::<2>(&chunk.hmask, out);
        let d = half(chunk.d);
        out.scale = chunk.unpack_scales().map(|scale| d * f32::from(scale));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        let mut q = pairs32(&chunk.qs);
        for (i, q) in q.iter_mut().enumerate() {
            *q = add_high_bits_avx512::<2>(&chunk.hmask, i, *q);
        }
        // SAFETY: there are 12 bytes of scales.
        let (low, high) = unsafe {
            let high = chunk.scales.as_ptr().add(8).cast::<i32>().read_unaligned();
            (_mm_loadl_epi64(chunk.scales.as_ptr().cast()), _mm_set1_epi32(high))
        };
        let low = _mm_unpacklo_epi64(low, _mm_srli_epi16::<4>(low));
        let high = _mm_srlv_epi32(high, _mm_setr_epi32(0, 2, 4, 6));
        let low = _mm_and_si128(low, _mm_set1_epi8(15));
        let high = _mm_slli_epi16::<4>(_mm_and_si128(high, _mm_set1_epi8(3)));
        let scale = _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
        Registers { q, scale: scaled_bytes(scale, &chunk.d), min: _mm512_setzero_ps() }
    }
}

impl Format for BlockQ4K {
    const DTYPE: DType = DType::Q4_K;
    const OFFSET: u8 = 0;
    const FINE: bool = false;
    const MIN: bool = true;
    type Chunk = BlockQ4K;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        split_nibbles(&chunk.qs, out);
        set_scales_mins(chunk.scales_mins(), half(chunk.d), half(chunk.dmin), out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        let (scale, min) = scales_mins_avx512(&chunk.scales, &chunk.d, &chunk.dmin);
        Registers { q: nibbles32(&chunk.qs), scale, min }
    }
}

impl Format for BlockQ5K {
    const DTYPE: DType = DType::Q5_K;
    const OFFSET: u8 = 0;
    const FINE: bool = false;
    const MIN: bool = true;
    type Chunk = BlockQ5K;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        split_nibbles(&chunk.qs, out);
        add_high_bits::<4>(&chunk.qh, out);
        set_scales_mins(chunk.scales_mins(), half(chunk.d), half(chunk.dmin), out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        let mut q = nibbles32(&chunk.qs);
        for (i, q) in q.iter_mut().enumerate() {
            *q = add_high_bits_avx512::<4>(&chunk.qh, i, *q);
        }
        let (scale, min) = scales_mins_avx512(&chunk.scales, &chunk.d, &chunk.dmin);
        Registers { q, scale, min }
    }
}

impl Format for BlockQ6K {
    const DTYPE: DType = DType::Q6_K;
    const OFFSET: u8 = 32;
    const FINE: bool = true;
    const MIN: bool = false;
    type Chunk = BlockQ6K;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        let low = chunk.ql.as_chunks::<32>().0;
        let out32 = out.q.as_chunks_mut::<32>().0;
        for (h, high) in chunk.qh.as_chunks::<32>().0.iter().enumerate() {
            let join = |low: [u8; 32], high: [u8; 32]| std::array::from_fn(|i| low[i] | high[i] << 4);
            out32[4 * h] = join(bits::<0, 4>(&low[2 * h]), bits::<0, 2>(high));
            out32[4 * h + 1] = join(bits::<0, 4>(&low[2 * h + 1]), bits::<2, 2>(high));
            out32[4 * h + 2] = join(bits::<4, 4>(&low[2 * h]), bits::<4, 2>(high));
            out32[4 * h + 3] = join(bits::<4, 4>(&low[2 * h + 1]), bits::<6, 2>(high));
        }
        let d = half(chunk.d);
        out.scale = chunk.scales.map(|scale| d * f32::from(scale));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of it.
        let chunk = unsafe { &*chunk };
        let shift = _mm512_inserti64x4::<1>(_mm512_set1_epi16(0), _mm256_set1_epi16(2));
        let (nibble, pair) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let mut q = [_mm512_setzero_si512(); 4];
        for h in 0..2 {
            // SAFETY: `ql` has 128 bytes and `qh` 64.
            let (low, high) = unsafe {
                let high = _mm256_loadu_si256(chunk.qh.as_ptr().add(32 * h).cast());
                (_mm512_loadu_si512(chunk.ql.as_ptr().add(64 * h).cast()), _mm512_broadcast_i64x4(high))
            };
            // Both halves hold all of `qh`; the upper half uses the next two bits. They go to bits 4 and 5.
            let high = _mm512_srlv_epi16(high, shift);
            let (low, high) = ([low, _mm512_srli_epi16::<4>(low)], [_mm512_slli_epi16::<4>(high), high]);
            for k in 0..2 {
                let high = _mm512_and_si512(high[k], pair);
                q[2 * h + k] = _mm512_or_si512(_mm512_and_si512(low[k], nibble), high);
            }
        }
        // SAFETY: there are 16 scales.
        let scales = unsafe { _mm_loadu_si128(chunk.scales.as_ptr().cast()) };
        Registers { q, scale: scaled_bytes(scales, &chunk.d), min: _mm512_setzero_ps() }
    }
}
