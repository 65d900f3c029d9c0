//! Integer products: `vpmaddubsw` of unsigned weights and signed activations, pairs added in 16 bits.
//!
//! Pairs cannot overflow. Weights with an offset of 128 are made signed and their signs moved to the activations, which
//! gives at most `2·128·127`; weights of all other formats have at most six bits.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{store, sum_lanes};
use crate::cpu::activations::{CHUNK, GROUP};
use crate::cpu::linear::PREFETCH;
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::{Format, PANEL, PanelChunk, Unpacked};
use crate::cpu::linear::plain;

/// The offset that is removed by making weights signed.
pub(super) const SIGNED: u8 = 128;

/// Computes a row of weights times every token, few tokens. See `plain::row`.
///
/// # Safety
/// As `plain::row`; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn row<F: Format>(job: &Quantized<'_>, row: usize) {
    let mut token = 0;
    while token < job.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match job.args.tokens - token {
                4.. => row_times::<F, 4>(job, row, token),
                2.. => row_times::<F, 2>(job, row, token),
                _ => row_times::<F, 1>(job, row, token),
            }
        };
    }
}

/// One row times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn row_times<F: Format, const T: usize>(job: &Quantized<'_>, row: usize, token: usize) -> usize {
    let weights = job.weight_row(row);
    const { F::UNALIGNED };
    let bytes = size_of::<F::Chunk>();
    let whole = job.row_bytes / bytes;
    let mut lanes = [[_mm256_setzero_ps(); 2]; T];
    let mut unpacked = Unpacked::ZERO;
    for chunk in 0..job.layout.chunks() {
        let at = weights.wrapping_add(chunk * bytes);
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH + line).cast());
        }
        // SAFETY: the chunk is inside the row, or it is copied and padded; blocks have any alignment.
        unsafe {
            if chunk < whole {
                F::unpack_avx2(&*at.cast(), &mut unpacked);
            } else {
                let rest = plain::chunk_of::<F>(weights, job.row_bytes, chunk);
                F::unpack_avx2(&rest, &mut unpacked);
            }
            lanes = add_chunk::<F, T>(job, &unpacked, token, chunk, lanes);
        }
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        // SAFETY: the row is this worker's.
        unsafe { plain::store(job.args, token + i, row, sum_lanes(lanes)) };
    }
    T
}

/// Adds one chunk of a row, times `T` tokens, to their lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_chunk<F: Format, const T: usize>(
    job: &Quantized<'_>,
    weights: &Unpacked,
    token: usize,
    chunk: usize,
    mut lanes: [[__m256; 2]; T],
) -> [[__m256; 2]; T] {
    let layout = job.layout;
    for (i, lanes) in lanes.iter_mut().enumerate() {
        let x = job.token(token + i);
        // SAFETY: each array of the row holds `layout.chunks()` chunks.
        unsafe {
            let d: *const f32 = x.add(layout.d() + chunk * 32).cast();
            for group in 0..CHUNK / GROUP {
                let q = _mm256_load_si256(weights.q.as_ptr().add(group * GROUP).cast());
                let x = _mm256_loadu_si256(x.add(layout.q() + chunk * CHUNK + group * GROUP).cast());
                let dot = _mm256_cvtepi32_ps(dot::<F>(q, x));
                let d = *d.add(group);
                let scale = if F::FINE {
                    let (low, high) = (weights.scale[2 * group] * d, weights.scale[2 * group + 1] * d);
                    _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low))
                } else {
                    _mm256_set1_ps(weights.scale[group] * d)
                };
                lanes[group % 2] = _mm256_fmadd_ps(dot, scale, lanes[group % 2]);
            }
            if F::MIN {
                let (sums, halves) = if F::FINE { (layout.min16(), 2) } else { (layout.min32(), 1) };
                let sums: *const f32 = x.add(sums + chunk * 32 * halves).cast();
                for (half, lanes) in lanes[..halves].iter_mut().enumerate() {
                    let min = _mm256_loadu_ps(weights.min.as_ptr().add(8 * half));
                    *lanes = _mm256_fmadd_ps(min, _mm256_loadu_ps(sums.add(8 * half)), *lanes);
                }
            }
        }
    }
    lanes
}

/// Products of four adjacent weights in each lane, with the offset removed.
#[inline]
#[target_feature(enable = "avx2")]
fn dot<F: Format>(q: __m256i, x: __m256i) -> __m256i {
    let mut pairs = pairs::<F>(q, x);
    if F::OFFSET != 0 && F::OFFSET != SIGNED {
        let offset = _mm256_maddubs_epi16(_mm256_set1_epi8(F::OFFSET as i8), x);
        pairs = _mm256_sub_epi16(pairs, offset);
    }
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Products of two adjacent weights in each lane of 16 bits, with the offset removed if it is [`SIGNED`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pairs<F: Format>(q: __m256i, x: __m256i) -> __m256i {
    if F::OFFSET == SIGNED {
        let q = _mm256_xor_si256(q, _mm256_set1_epi8(SIGNED as i8));
        return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q));
    }
    _mm256_maddubs_epi16(q, x)
}

/// Computes panels of weights times every token, many tokens. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, with room at `own` for all the panels; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn panels<F: Format>(
    job: &Quantized<'_>,
    panels: Range<usize>,
    own: *mut PanelChunk,
) {
    let chunks = job.layout.chunks();
    for (i, panel) in panels.clone().enumerate() {
        // SAFETY: there is room for all panels; the caller vouches for the rest.
        unsafe { unpack_panel::<F>(job, panel, own.add(i * chunks)) };
    }
    let mut token = 0;
    while token < job.args.tokens {
        let left = job.args.tokens - token;
        let tile = if left >= 4 { 4 } else { 1 };
        for (i, panel) in panels.clone().enumerate() {
            // SAFETY: tokens and panels are in range and the panels unpacked.
            unsafe {
                let own = own.add(i * chunks);
                match tile {
                    4 => tile_times::<F, 4>(job, panel, own, token),
                    _ => tile_times::<F, 1>(job, panel, own, token),
                }
            }
        }
        token += tile;
    }
}

/// Unpacks 16 rows. Missing rows of the last panel repeat the last row.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_panel<F: Format>(job: &Quantized<'_>, panel: usize, own: *mut PanelChunk) {
    let mut unpacked = Unpacked::ZERO;
    for row in 0..PANEL {
        let weights = job.weight_row((panel * PANEL + row).min(job.args.n_out - 1));
        for chunk in 0..job.layout.chunks() {
            // SAFETY: the row is in range, and there is room for the chunk.
            unsafe {
                let blocks = plain::chunk_of::<F>(weights, job.row_bytes, chunk);
                F::unpack_avx2(&blocks, &mut unpacked);
                (*own.add(chunk)).put(row, &unpacked);
            }
        }
    }
}

/// A panel times `T` tokens from `token` on.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    panel: usize,
    weights: *const PanelChunk,
    token: usize,
) {
    let layout = job.layout;
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    for chunk in 0..layout.chunks() {
        // SAFETY: the panel has that many chunks, and the activations as well.
        unsafe {
            let weights = &*weights.add(chunk);
            for group in 0..CHUNK / GROUP {
                // Eight rows at a time, as sixteen would not fit the registers.
                for half in 0..2 {
                    add_group::<F, T>(job, weights, token, (chunk, group), half, &mut sums);
                }
            }
        }
    }
    let first = panel * PANEL;
    let rows = PANEL.min(job.args.n_out - first);
    for (i, sums) in sums.into_iter().enumerate() {
        // SAFETY: the panel's rows are this worker's.
        unsafe { store(job.args, token + i, first, rows, sums) };
    }
}

/// Adds a group of 32 weights of 8 rows, times `T` tokens, to their sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_group<F: Format, const T: usize>(
    job: &Quantized<'_>,
    weights: &PanelChunk,
    token: usize,
    (chunk, group): (usize, usize),
    half: usize,
    sums: &mut [[__m256; 2]; T],
) {
    let layout = job.layout;
    let at = chunk * (CHUNK / GROUP) + group;
    let float = |token: usize, offset: usize| {
        // SAFETY: each array of a row holds `layout.chunks()` chunks.
        _mm256_set1_ps(unsafe { job.token(token).add(offset).cast::<f32>().read_unaligned() })
    };
    // SAFETY: each array of a row holds `layout.chunks()` chunks; the arrays of the panel have 16 rows.
    unsafe {
        let eight = |values: &[f32; PANEL]| _mm256_load_ps(values.as_ptr().add(8 * half));
        if F::FINE {
            let low = dots::<F, T>(
                job,
                weights,
                token,
                group * 8..group * 8 + 4,
                half,
                at,
                layout.sum16() + 8 * at,
            );
            let high = dots::<F, T>(
                job,
                weights,
                token,
                group * 8 + 4..group * 8 + 8,
                half,
                at,
                layout.sum16() + 8 * at + 4,
            );
            let scale = (eight(&weights.scale[2 * group]), eight(&weights.scale[2 * group + 1]));
            for (i, sums) in sums.iter_mut().enumerate() {
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(low[i]), scale.0);
                let product = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high[i]), scale.1, product);
                sums[half] = _mm256_fmadd_ps(product, float(token + i, layout.d() + 4 * at), sums[half]);
                if F::MIN {
                    for j in 0..2 {
                        let total = float(token + i, layout.min16() + 8 * at + 4 * j);
                        sums[half] = _mm256_fmadd_ps(eight(&weights.min[2 * group + j]), total, sums[half]);
                    }
                }
            }
        } else {
            let dots = dots::<F, T>(
                job,
                weights,
                token,
                group * 8..group * 8 + 8,
                half,
                at,
                layout.sum32() + 4 * at,
            );
            let scale = eight(&weights.scale[group]);
            for (i, sums) in sums.iter_mut().enumerate() {
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[i]), scale);
                sums[half] = _mm256_fmadd_ps(product, float(token + i, layout.d() + 4 * at), sums[half]);
                if F::MIN {
                    let total = float(token + i, layout.min32() + 4 * at);
                    sums[half] = _mm256_fmadd_ps(eight(&weights.min[group]), total, sums[half]);
                }
            }
        }
    }
}

/// Exact products of some quads of a group, for 8 rows and `T` tokens, with the offset removed. The activations'
/// negated sums are at `sum` in their rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<F: Format, const T: usize>(
    job: &Quantized<'_>,
    weights: &PanelChunk,
    token: usize,
    quads: Range<usize>,
    half: usize,
    at: usize,
    sum: usize,
) -> [__m256i; T] {
    let layout = job.layout;
    let mut dots = [_mm256_setzero_si256(); T];
    let int = |token: usize, offset: usize| {
        // SAFETY: each array of a row holds `layout.chunks()` chunks.
        _mm256_set1_epi32(unsafe { job.token(token).add(offset).cast::<i32>().read_unaligned() })
    };
    if F::OFFSET != 0 && F::OFFSET != SIGNED {
        for (i, dot) in dots.iter_mut().enumerate() {
            let shift = _mm256_set1_epi32(F::OFFSET.trailing_zeros() as i32);
            *dot = _mm256_sllv_epi32(int(token + i, sum), shift);
        }
    }
    for quad in quads {
        // SAFETY: a quad has 16 rows of four bytes.
        let q = unsafe { _mm256_load_si256(weights.q[quad].as_ptr().add(8 * half).cast()) };
        let signed = _mm256_xor_si256(q, _mm256_set1_epi8(SIGNED as i8));
        let size = if F::OFFSET == SIGNED { _mm256_abs_epi8(signed) } else { q };
        for (i, dot) in dots.iter_mut().enumerate() {
            let x = int(token + i, layout.q() + at * GROUP + 4 * (quad % 8));
            let x = if F::OFFSET == SIGNED { _mm256_sign_epi8(x, signed) } else { x };
            let pairs = _mm256_maddubs_epi16(size, x);
            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }
    dots
}
