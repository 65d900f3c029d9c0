//! Four-bit floating point: MXFP4 and NVFP4. Their values are halves of small integers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::iq4::look_up;
#[cfg(target_arch = "x86_64")]
use super::iq4::{look_up_avx2, look_up_avx512};
use super::{Format, Unpacked};
use crate::cpu::activations::GROUP;
#[cfg(target_arch = "x86_64")]
use crate::cpu::linear::avx512::{Registers, products};
use crate::tensor::DType;
use crate::tensor::blocks::{BlockMxfp4, BlockNvfp4};
use crate::tensor::blocks::{E2M1_DOUBLED, half_e8m0, half_ue4m3};

const OFFSET: u8 = 16;

/// The doubled values of the codes, plus [`OFFSET`].
const VALUES: [u8; 16] = {
    let mut values = [0; 16];
    let mut i = 0;
    while i < 16 {
        values[i] = (E2M1_DOUBLED[i] + OFFSET as i8) as u8;
        i += 1;
    }
    values
};

/// The halved scales of eight blocks.
#[inline(always)]
fn scales(chunk: &[BlockMxfp4; 8]) -> [f32; 8] {
    std::array::from_fn(|i| half_e8m0(chunk[i].e))
}

impl Format for BlockMxfp4 {
    const DTYPE: DType = DType::MXFP4;
    const OFFSET: u8 = OFFSET;
    const FINE: bool = false;
    const MIN: bool = false;
    type Chunk = [BlockMxfp4; 8];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, _: impl Fn([u8; 2]) -> f32) {
        for (block, q) in chunk.iter().zip(out.q.chunks_exact_mut(GROUP)) {
            look_up(&VALUES, &block.qs, q);
        }
        out.scale[..8].copy_from_slice(&scales(chunk));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        look_up_avx2(&VALUES, chunk.iter().map(|block| &block.qs), out);
        out.scale[..8].copy_from_slice(&scales(chunk));
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn unpack_avx512(chunk: *const Self::Chunk) -> Registers {
        // SAFETY: blocks are made of bytes, so they need no alignment; the caller has all of them.
        let chunk = unsafe { &*chunk };
        let scales = scales(chunk);
        Registers {
            q: products(|i| look_up_avx512(&VALUES, &chunk[i].qs, &chunk[i + 1].qs)),
            // SAFETY: there are eight scales.
            scale: _mm512_castps256_ps512(unsafe { _mm256_loadu_ps(scales.as_ptr()) }),
            min: _mm512_setzero_ps(),
        }
    }
}

/// The halved scales of four blocks.
#[inline(always)]
fn fine_scales(chunk: &[BlockNvfp4; 4]) -> [f32; 16] {
    std::array::from_fn(|i| half_ue4m3(chunk[i / 4].d[i % 4]))
}

impl Format for BlockNvfp4 {
    const DTYPE: DType = DType::NVFP4;
    const OFFSET: u8 = OFFSET;
    const FINE: bool = true;
    const MIN: bool = false;
    type Chunk = [BlockNvfp4; 4];

    #[inline(always)]
    fn unpack(chunk: &Self::Chunk, out: &mut Unpacked, _: impl Fn([u8; 2]) -> f32) {
        let bytes = chunk.iter().flat_map(|block| block.qs.as_chunks::<8>().0);
        for (bytes, q) in bytes.zip(out.q.as_chunks_mut::<16>().0) {
            for (j, byte) in bytes.iter().enumerate() {
                q[j] = VALUES[usize::from(byte & 15)];
                q[8 + j] = VALUES[usize::from(byte >> 4)];
            }
        }
        out.scale = fine_scales(chunk);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn unpack_avx2(chunk: &Self::Chunk, out: &mut Unpacked) {
        // SAFETY: the table has 16 bytes.
        let values = unsafe { _mm_loadu_si128(VALUES.as_ptr().cast()) };
        let bytes = chunk.iter().flat_map(|block| block.qs.as_chunks::<16>().0);
        for (bytes, q) in bytes.zip(out.q.as_chunks_mut::<32>().0) {
            // SAFETY: there are 16 bytes of nibbles, and room for 32 values.
            unsafe {
                let both = _mm_loadu_si128(bytes.as_ptr().cast());
                let low = _mm_and_si128(both, _mm_set1_epi8(15));
                let high = _mm_and_si128(_mm_srli_epi16::<4>(both), _mm_set1_epi8(15));
                let (low, high) = (_mm_shuffle_epi8(values, low), _mm_shuffle_epi8(values, high));
                _mm_storeu_si128(q.as_mut_ptr().cast(), _mm_unpacklo_epi64(low, high));
                _mm_storeu_si128(q.as_mut_ptr().add(16).cast(), _mm_unpackhi_epi64(low, high));
            }
        }
        out.scale = fine_scales(chunk);
    }
}
