//! The formats whose nibbles are indices into a table of sixteen values: IQ4_NL and IQ4_XS.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::legacy::split_nibbles;
use super::{Format, Unpacked};
use crate::cpu::activations::GROUP;
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx2::half as half_avx2;
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx512::{Registers, half, halves_of_18, nibbles16, products};
use crate::tensor::DType;
use crate::tensor::blocks::IQ4_VALUES;
use crate::tensor::blocks::{BlockIq4Nl, BlockIq4Xs};

const OFFSET: u8 = 128;

/// The sixteen values plus [`OFFSET`].
const VALUES: [u8; 16] = {
    let mut values = [0; 16];
    let mut i = 0;
    while i < 16 {
        values[i] = (IQ4_VALUES[i] as u8) ^ OFFSET;
        i += 1;
    }
    values
};

/// Unpacks 32 weights from nibbles.
#[inline(always)]
pub(super) fn look_up(values: &[u8; 16], qs: &[u8; 16], out: &mut [u8]) {
    split_nibbles(qs, out);
    for q in out {
        *q = values[usize::from(*q)];
    }
}

/// Unpacks any number of weights from nibbles.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn look_up_avx2<'a>(
    values: &[u8; 16],
    qs: impl Iterator<Item = &'a [u8; 16]>,
    out: &mut Unpacked,
) {
    // SAFETY: the table has 16 bytes.
    let values = unsafe { _mm_loadu_si128(values.as_ptr().cast()) };
    for (qs, out) in qs.zip(out.q.as_chunks_mut::<GROUP>().0) {
        // SAFETY: there are 16 bytes of nibbles, and room for 32 values.
        unsafe {
            let low = _mm_loadu_si128(qs.as_ptr().cast());
            let high = _mm_srli_epi16::<4>(low);
            let both = _mm256_and_si256(_mm256_set_m128i(high, low), _mm256_set1_epi8(15));
            let both = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), both);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), both);
        }
    }
}

/// Unpacks 64 weights from nibbles.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn look_up_avx512(values: &[u8; 16], first: &[u8; 16], second: &[u8; 16]) -> __m512i {
    // SAFETY: the table has 16 bytes.
    let values = unsafe { _mm_loadu_si128(values.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), nibbles16(first, second))
}

impl Format for BlockIq4Nl {
    const DTYPE: DType = DType::IQ4_NL;
    const OFFSET: u8 = OFFSET;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockIq4Nl; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (i, (block, q)) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)).enumerate() {
            look_up(&VALUES, &block.qs, q);
            out.scale[i] = half(block.d);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        look_up_avx2(&VALUES, chunk.iter().map(|block| &block.qs), out);
        out.scale[..8].copy_from_slice(&chunk.map(|block| half_avx2(block.d)));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        Registers {
            q: products(|i| look_up_avx512(&VALUES, &chunk[i].qs, &chunk[i + 1].qs)),
            scale: halves_of_18(chunk),
            min: _mm512_setzero_ps(),
        }
    }
}

/// Scales of IQ4_XS.
#[inline(always)]
fn set_scales(chunk: &BlockIq4Xs, d: f32, out: &mut Unpacked) {
    for (out, scale) in out.scale.iter_mut().zip(chunk.unpack_scales()) {
        *out = d * f32::from(scale);
    }
}

impl Format for BlockIq4Xs {
    const DTYPE: DType = DType::IQ4_XS;
    const OFFSET: u8 = OFFSET;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = BlockIq4Xs;

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, half: impl Fn([u8; 2]) -> f32) {
        for (qs, q) in chunk.qs.as_chunks::<16>().0.iter().zip(out.q.chunks_exact_mut(GROUP)) {
            look_up(&VALUES, qs, q);
        }
        set_scales(chunk, half(chunk.d), out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        look_up_avx2(&VALUES, chunk.qs.as_chunks().0.iter(), out);
        set_scales(chunk, half_avx2(chunk.d), out);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        let qs = chunk.qs.as_chunks::<16>().0;
        let low = _mm256_set1_epi32(u32::from_le_bytes(chunk.scales_l) as i32);
        let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_set1_epi32(i32::from(u16::from_le_bytes(chunk.scales_h)));
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
        let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
        let scale = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
        let scale = _mm512_castps256_ps512(_mm256_cvtepi32_ps(scale));
        Registers {
            q: products(|i| look_up_avx512(&VALUES, &qs[i], &qs[i + 1])),
            scale: _mm512_mul_ps(scale, half(&chunk.d)),
            min: _mm512_setzero_ps(),
        }
    }
}
