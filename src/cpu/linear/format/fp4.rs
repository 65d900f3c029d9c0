//! Four-bit floating point: MXFP4. Twice the values of its codes are small integers.

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
use crate::tensor::blocks::BlockMxfp4;
use crate::tensor::blocks::fp4::{E2M1_DOUBLED, half_e8m0};

const OFFSET: u8 = 16;

/// Twice the values of the codes, plus [`OFFSET`].
const VALUES: [u8; 16] = {
    let mut values = [0; 16];
    let mut i = 0;
    while i < 16 {
        values[i] = (E2M1_DOUBLED[i] + OFFSET as i8) as u8;
        i += 1;
    }
    values
};

/// Half the scales of eight blocks.
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
        // SAFETY: blocks are made of bytes, so any address will do; the caller has all of them.
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
