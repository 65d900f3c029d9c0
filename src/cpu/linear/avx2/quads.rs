//! Integer products of few tokens in the order of sums of panels: four rows at a time are multiplied while unpacked.
//!
//! The products of 32 weights of a row are in eight lanes. The lanes of four rows are reduced together, which leaves
//! the four rows' sums in adjacent lanes.

use std::arch::x86_64::*;
use std::ops::Range;

use super::integer::{SIGNED, pairs};
use crate::cpu::activations::{CHUNK, GROUP};
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::{Format, Unpacked};
use crate::cpu::linear::plain;
use crate::cpu::linear::quads::{ROWS, prefetch};

/// A chunk of four rows, with their scales and minimums interleaved.
#[repr(C, align(32))]
struct Quad {
    rows: [Unpacked; ROWS],
    scale: [[f32; ROWS]; CHUNK / 16],
    min: [[f32; ROWS]; CHUNK / 16],
}

/// Computes rows of weights times every token. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, for rows; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn rows<F: Format>(job: &Quantized<'_>, rows: Range<usize>) {
    let mut quad = Quad {
        rows: [Unpacked::ZERO; ROWS],
        scale: [[0.0; ROWS]; CHUNK / 16],
        min: [[0.0; ROWS]; CHUNK / 16],
    };
    for first in rows.clone().step_by(ROWS) {
        let mut token = 0;
        while token < job.args.tokens {
            // SAFETY: rows and tokens are in range; the caller vouches for the rest.
            token += unsafe {
                match job.args.tokens - token {
                    4.. => quad_times::<F, 4>(job, &mut quad, first..rows.end, token),
                    2.. => quad_times::<F, 2>(job, &mut quad, first..rows.end, token),
                    _ => quad_times::<F, 1>(job, &mut quad, first..rows.end, token),
                }
            };
        }
    }
}

/// The first four of these rows times `T` tokens from `token` on; returns `T`. Missing rows repeat the last one.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quad_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    quad: &mut Quad,
    rows: Range<usize>,
    token: usize,
) -> usize {
    const { F::UNALIGNED };
    let starts: [*const u8; ROWS] =
        std::array::from_fn(|i| job.weight_row((rows.start + i).min(rows.end - 1)));
    let bytes = size_of::<F::Chunk>();
    let whole = job.row_bytes / bytes;
    let mut sums = [_mm_setzero_ps(); T];
    for chunk in 0..job.layout.chunks() {
        let at = chunk * bytes;
        prefetch::<F>(starts[0].wrapping_add(ROWS * (job.row_bytes + at)), job.row_bytes);
        for (i, start) in starts.into_iter().enumerate() {
            // SAFETY: the chunk is inside the row, or it is copied and padded; blocks have any alignment.
            unsafe {
                if chunk < whole {
                    F::unpack_avx2(&*start.add(at).cast(), &mut quad.rows[i]);
                } else {
                    F::unpack_avx2(&plain::chunk_of::<F>(start, job.row_bytes, chunk), &mut quad.rows[i]);
                }
            }
        }
        quad.arrange::<F>();
        for (i, sums) in sums.iter_mut().enumerate() {
            for group in 0..CHUNK / GROUP {
                // SAFETY: the token is in range.
                *sums = unsafe { add_group::<F>(job, quad, job.token(token + i), (chunk, group), *sums) };
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let mut values = [0f32; ROWS];
        // SAFETY: the array holds the register, and the rows are this worker's.
        unsafe {
            _mm_storeu_ps(values.as_mut_ptr(), sums);
            for (row, value) in rows.clone().zip(values) {
                plain::store(job.args, token + i, row, value);
            }
        }
    }
    T
}

impl Quad {
    /// Interleaves the rows' scales and minimums.
    #[inline]
    fn arrange<F: Format>(&mut self) {
        let count = if F::FINE { CHUNK / 16 } else { CHUNK / GROUP };
        for i in 0..count {
            self.scale[i] = [0, 1, 2, 3].map(|row| self.rows[row].scale[i]);
            if F::MIN {
                self.min[i] = [0, 1, 2, 3].map(|row| self.rows[row].min[i]);
            }
        }
    }
}

/// Adds four lanes of each of four rows, the products of 16 weights, into adjacent lanes. Where sums of small codes fit
/// 16 bits, two vectors are packed into one and neighbours added by a multiplication, which takes fewer shuffles.
#[inline]
#[target_feature(enable = "avx2")]
fn add_fours<F: Format>([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let packed = |a, b| _mm256_madd_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(1));
    if F::CODES * 127 * 8 <= i16::MAX as usize {
        return packed(packed(a, b), packed(c, d));
    }
    let pairs = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (ab, cd) = (pairs(a, b), pairs(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// Adds a group of 32 weights of four rows, times a token, to their sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_group<F: Format>(
    job: &Quantized<'_>,
    quad: &Quad,
    x: *const u8,
    (chunk, group): (usize, usize),
    mut sums: __m128,
) -> __m128 {
    let layout = job.layout;
    let at = chunk * (CHUNK / GROUP) + group;
    // SAFETY: each array of the row of activations holds `layout.chunks()` chunks, and those of the quad a chunk.
    unsafe {
        let codes = _mm256_loadu_si256(x.add(layout.q() + at * GROUP).cast());
        let dot = |row: usize| {
            let q = _mm256_load_si256(quad.rows[row].q.as_ptr().add(group * GROUP).cast());
            _mm256_madd_epi16(pairs::<F>(q, codes), _mm256_set1_epi16(1))
        };
        // The first 16 weights of the rows, and the last 16.
        let both = add_fours::<F>([dot(0), dot(1), dot(2), dot(3)]);
        let halves = [_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both)];
        let off = |dots: __m128i, sum: usize| match F::OFFSET {
            0 | SIGNED => dots,
            offset => {
                let sum = x.add(sum).cast::<i32>().read_unaligned() << offset.trailing_zeros();
                _mm_add_epi32(dots, _mm_set1_epi32(sum))
            }
        };
        let four = |values: &[f32; ROWS]| _mm_loadu_ps(values.as_ptr());
        let value = |offset: usize| _mm_set1_ps(x.add(offset).cast::<f32>().read_unaligned());
        let product = if F::FINE {
            let dots = [off(halves[0], layout.sum16() + 8 * at), off(halves[1], layout.sum16() + 8 * at + 4)];
            let product = _mm_mul_ps(_mm_cvtepi32_ps(dots[0]), four(&quad.scale[2 * group]));
            _mm_fmadd_ps(_mm_cvtepi32_ps(dots[1]), four(&quad.scale[2 * group + 1]), product)
        } else {
            let dots = off(_mm_add_epi32(halves[0], halves[1]), layout.sum32() + 4 * at);
            _mm_mul_ps(_mm_cvtepi32_ps(dots), four(&quad.scale[group]))
        };
        sums = _mm_fmadd_ps(product, value(layout.d() + 4 * at), sums);
        if F::MIN && F::FINE {
            for half in 0..2 {
                let min = four(&quad.min[2 * group + half]);
                sums = _mm_fmadd_ps(min, value(layout.min16() + 8 * at + 4 * half), sums);
            }
        } else if F::MIN {
            sums = _mm_fmadd_ps(four(&quad.min[group]), value(layout.min32() + 4 * at), sums);
        }
    }
    sums
}
