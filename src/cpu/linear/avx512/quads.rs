//! Integer products of few tokens in the order of sums of panels: four rows at a time are multiplied while unpacked.
//!
//! The products of a row are in 16 lanes, four adjacent weights in each. The lanes of four rows are reduced together,
//! which leaves the four rows' sums in adjacent lanes, one group of 32 weights after another.

use std::arch::x86_64::*;
use std::ops::Range;

use super::Registers;
use crate::cpu::activations::{CHUNK, GROUP, Layout};
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::Format;
use crate::cpu::linear::plain;
use crate::cpu::linear::quads::{ROWS, prefetch};

/// A chunk of four rows. Scales and minimums are interleaved by row, four groups in a register. In FINE formats the
/// registers hold the first halves of groups 0 to 3, their second halves, and the same for groups 4 to 7; in other
/// formats groups 0 to 3, and 4 to 7.
struct Quad {
    q: [[__m512i; 4]; ROWS],
    scale: [__m512; 4],
    min: [__m512; 4],
}

/// Computes rows of weights times every token. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, for rows; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in crate::cpu::linear) unsafe fn rows<F: Format>(job: &Quantized<'_>, rows: Range<usize>) {
    for first in rows.clone().step_by(ROWS) {
        let mut token = 0;
        while token < job.args.tokens {
            // SAFETY: rows and tokens are in range; the caller vouches for the rest.
            token += unsafe {
                match job.args.tokens - token {
                    4.. => quad_times::<F, 4>(job, first..rows.end, token),
                    2.. => quad_times::<F, 2>(job, first..rows.end, token),
                    _ => quad_times::<F, 1>(job, first..rows.end, token),
                }
            };
        }
    }
}

/// The first four of these rows times `T` tokens from `token` on; returns `T`. Missing rows repeat the last one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn quad_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    rows: Range<usize>,
    token: usize,
) -> usize {
    const { F::UNALIGNED };
    let starts: [*const u8; ROWS] =
        std::array::from_fn(|i| job.weight_row((rows.start + i).min(rows.end - 1)));
    let bytes = size_of::<F::Chunk>();
    let whole = job.row_bytes / bytes;
    let mut sums = [_mm_setzero_ps(); T];
    for chunk in 0..whole {
        let at = chunk * bytes;
        prefetch::<F>(starts[0].wrapping_add(ROWS * (job.row_bytes + at)), job.row_bytes);
        // SAFETY: the chunk is inside each row, and the rows inside the weights.
        sums = unsafe {
            let quad = unpack::<F>(|i| F::unpack_avx512(starts[i].add(at).cast()));
            add_chunk::<F, T>(job, &quad, token, chunk, sums)
        };
    }
    if whole < job.layout.chunks() {
        // SAFETY: the rows are inside the weights, and the rest of each row is copied and padded.
        sums = unsafe {
            let quad =
                unpack::<F>(|i| F::unpack_avx512(&plain::chunk_of::<F>(starts[i], job.row_bytes, whole)));
            add_chunk::<F, T>(job, &quad, token, whole, sums)
        };
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

/// Combines the chunks of four rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn unpack<F: Format>(row: impl Fn(usize) -> Registers) -> Quad {
    let rows = [row(0), row(1), row(2), row(3)];
    let q = [rows[0].q, rows[1].q, rows[2].q, rows[3].q];
    let scale = side_by_side::<F>([rows[0].scale, rows[1].scale, rows[2].scale, rows[3].scale]);
    let min = match F::MIN {
        true => side_by_side::<F>([rows[0].min, rows[1].min, rows[2].min, rows[3].min]),
        false => [_mm512_setzero_ps(); 4],
    };
    Quad { q, scale, min }
}

/// Four rows' scales or minimums in the order of [`Quad`].
#[inline]
#[target_feature(enable = "avx512f")]
fn side_by_side<F: Format>([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    // Interleave the first or last eight values of two rows; then all four rows of every value, or of every second one.
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let pairs = |eight: i32| {
        let which = _mm512_add_epi32(low, _mm512_set1_epi32(eight));
        (_mm512_permutex2var_ps(a, which, b), _mm512_permutex2var_ps(c, which, d))
    };
    let (ab, cd) = pairs(0);
    if F::FINE {
        let even = _mm512_setr_epi32(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(2));
        let (ab8, cd8) = pairs(8);
        [
            _mm512_permutex2var_ps(ab, even, cd),
            _mm512_permutex2var_ps(ab, odd, cd),
            _mm512_permutex2var_ps(ab8, even, cd8),
            _mm512_permutex2var_ps(ab8, odd, cd8),
        ]
    } else {
        let first = _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
        let last = _mm512_add_epi32(first, _mm512_set1_epi32(8));
        let zero = _mm512_setzero_ps();
        [_mm512_permutex2var_ps(ab, first, cd), _mm512_permutex2var_ps(ab, last, cd), zero, zero]
    }
}

/// Adds four lanes of each of four rows, the products of 16 weights, into adjacent lanes. Where sums of small codes fit
/// 16 bits, two vectors are packed into one and neighbours added by a multiplication, which takes fewer shuffles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_fours<F: Format>([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let packed = |a, b| _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
    if F::CODES * 127 * 8 <= i16::MAX as usize {
        return packed(packed(a, b), packed(c, d));
    }
    let pairs = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (ab, cd) = (pairs(a, b), pairs(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// Adds one chunk of four rows, times `T` tokens, to their sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_chunk<F: Format, const T: usize>(
    job: &Quantized<'_>,
    quad: &Quad,
    token: usize,
    chunk: usize,
    mut sums: [__m128; T],
) -> [__m128; T] {
    let layout = job.layout;
    for (i, sum) in sums.iter_mut().enumerate() {
        let x = job.token(token + i);
        // SAFETY: each array of the row holds `layout.chunks()` chunks.
        unsafe {
            // Register j: weights 64j to 64j + 63 in groups of 16.
            let fours = |j: usize| {
                let x = _mm512_loadu_si512(x.add(layout.q() + chunk * CHUNK + 64 * j).cast());
                let dot = |row: usize| _mm512_dpbusd_epi32(_mm512_setzero_si512(), quad.q[row][j], x);
                add_fours::<F>([dot(0), dot(1), dot(2), dot(3)])
            };
            for half in 0..2 {
                let at = (chunk * (CHUNK / GROUP) + 4 * half, half);
                let products = scaled::<F>(layout, quad, x, at, [fours(2 * half), fours(2 * half + 1)]);
                *sum = add_groups::<F>(layout, quad, x, at, products, *sum);
            }
        }
    }
    sums
}

/// The scaled products of four groups, from the sums of 16 weights each; `at` is the first group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn scaled<F: Format>(
    layout: Layout,
    quad: &Quad,
    x: *const u8,
    (at, half): (usize, usize),
    [a, b]: [__m512i; 2],
) -> __m512 {
    let mut first = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
    let mut second = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
    let each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let shift = _mm_cvtsi32_si128(F::OFFSET.trailing_zeros() as i32);
    if F::FINE {
        if F::OFFSET != 0 {
            // SAFETY: each array of the row holds `layout.chunks()` chunks.
            let sums = unsafe { _mm256_loadu_si256(x.add(layout.sum16() + 8 * at).cast()) };
            let sums = _mm512_castsi256_si512(_mm256_sll_epi32(sums, shift));
            let even = _mm512_add_epi32(each, each);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            first = _mm512_add_epi32(first, _mm512_permutexvar_epi32(even, sums));
            second = _mm512_add_epi32(second, _mm512_permutexvar_epi32(odd, sums));
        }
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(first), quad.scale[2 * half]);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(second), quad.scale[2 * half + 1], product)
    } else {
        let mut dots = _mm512_add_epi32(first, second);
        if F::OFFSET != 0 {
            // SAFETY: each array of the row holds `layout.chunks()` chunks.
            let sums = unsafe { _mm_loadu_si128(x.add(layout.sum32() + 4 * at).cast()) };
            let sums = _mm512_castsi128_si512(_mm_sll_epi32(sums, shift));
            dots = _mm512_add_epi32(dots, _mm512_permutexvar_epi32(each, sums));
        }
        _mm512_mul_ps(_mm512_cvtepi32_ps(dots), quad.scale[half])
    }
}

/// Adds four groups in order; `at` is the first.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,fma")]
unsafe fn add_groups<F: Format>(
    layout: Layout,
    quad: &Quad,
    x: *const u8,
    (at, half): (usize, usize),
    products: __m512,
    mut sum: __m128,
) -> __m128 {
    // SAFETY: each array of the row holds `layout.chunks()` chunks.
    let value = |offset: usize| _mm_set1_ps(unsafe { x.add(offset).cast::<f32>().read_unaligned() });
    let products = quarters(products);
    let (first, second) = match F::FINE {
        true => (quarters(quad.min[2 * half]), quarters(quad.min[2 * half + 1])),
        false => (quarters(quad.min[half]), [_mm_setzero_ps(); 4]),
    };
    for group in 0..4 {
        sum = _mm_fmadd_ps(products[group], value(layout.d() + 4 * (at + group)), sum);
        if F::MIN && F::FINE {
            sum = _mm_fmadd_ps(first[group], value(layout.min16() + 8 * (at + group)), sum);
            sum = _mm_fmadd_ps(second[group], value(layout.min16() + 8 * (at + group) + 4), sum);
        } else if F::MIN {
            sum = _mm_fmadd_ps(first[group], value(layout.min32() + 4 * (at + group)), sum);
        }
    }
    sum
}

/// The four quarters of a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(x: __m512) -> [__m128; 4] {
    [
        _mm512_castps512_ps128(x),
        _mm512_extractf32x4_ps::<1>(x),
        _mm512_extractf32x4_ps::<2>(x),
        _mm512_extractf32x4_ps::<3>(x),
    ]
}
