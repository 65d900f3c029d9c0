//! Products in f32.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{half, store, sum_lanes};
use crate::cpu::linear::PREFETCH;
use crate::cpu::linear::float::{BLOCK, Element, Job};
use crate::cpu::linear::format::PANEL;
use crate::cpu::linear::plain::{self, LANES};

/// Computes a row of weights times every token, few tokens.
///
/// # Safety
/// The row is this worker's; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn row<E: Element>(job: &Job<'_>, row: usize) {
    let mut token = 0;
    while token < job.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match job.args.tokens - token {
                4.. => row_times::<E, 4>(job, row, token),
                2.. => row_times::<E, 2>(job, row, token),
                _ => row_times::<E, 1>(job, row, token),
            }
        };
    }
}

/// One row times `T` tokens from `token` on; gives `T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn row_times<E: Element, const T: usize>(job: &Job<'_>, row: usize, token: usize) -> usize {
    let (weights, k) = (job.row(row), job.args.k);
    let mut lanes = [[_mm256_setzero_ps(); 2]; T];
    let whole = k / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        let at = weights.wrapping_add(column * E::BYTES);
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH).cast());
        // SAFETY: rows of weights and activations have `k` values.
        unsafe {
            let weights = [E::read_avx2(at), E::read_avx2(at.add(LANES / 2 * E::BYTES))];
            for (i, lanes) in lanes.iter_mut().enumerate() {
                let x = job.args.x.row(token + i).add(column);
                lanes[0] = _mm256_fmadd_ps(weights[0], _mm256_loadu_ps(x), lanes[0]);
                lanes[1] = _mm256_fmadd_ps(weights[1], _mm256_loadu_ps(x.add(LANES / 2)), lanes[1]);
            }
        }
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        let mut values = [0f32; LANES];
        // SAFETY: the array holds both registers.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), lanes[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(LANES / 2), lanes[1]);
        }
        if whole < k {
            // Lanes past the end add zero, as they do in the other kernels.
            for (lane, value) in values.iter_mut().enumerate() {
                let column = whole + lane;
                let (w, x) = if column < k {
                    // SAFETY: rows of weights and activations have `k` values.
                    unsafe {
                        (read::<E>(weights.add(column * E::BYTES)), *job.args.x.row(token + i).add(column))
                    }
                } else {
                    (0.0, 0.0)
                };
                *value = w.mul_add(x, *value);
            }
        }
        // SAFETY: the array holds both registers, and the row is this worker's.
        unsafe {
            let lanes = [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(LANES / 2))];
            plain::store(job.args, token + i, row, sum_lanes(lanes));
        }
    }
    T
}

/// One element.
///
/// # Safety
/// `at` points to an element.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn read<E: Element>(at: *const u8) -> f32 {
    // SAFETY: the caller vouches for it.
    unsafe { E::read(at, |bytes| half(bytes)) }
}

/// Computes a panel of at most 16 rows times every token, many tokens.
///
/// # Safety
/// The rows are this worker's, and `own` has room for a panel; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn panel<E: Element>(job: &Job<'_>, rows: Range<usize>, own: *mut f32) {
    for i in 0..PANEL {
        // Missing rows of the last panel repeat the last row.
        let row = job.row((rows.start + i).min(rows.end - 1));
        for column in 0..job.args.k {
            // SAFETY: rows have `k` elements, and there is room for the panel.
            unsafe { *own.add(column * PANEL + i) = read::<E>(row.add(column * E::BYTES)) };
        }
    }
    let mut token = 0;
    while token < job.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match job.args.tokens - token {
                4.. => tile_times::<4>(job, rows.clone(), own, token),
                _ => tile_times::<1>(job, rows.clone(), own, token),
            }
        };
    }
}

/// A panel times `T` tokens from `token` on; gives `T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_times<const T: usize>(
    job: &Job<'_>,
    rows: Range<usize>,
    panel: *const f32,
    token: usize,
) -> usize {
    let k = job.args.k;
    let mut sums = [[0f32; PANEL]; T];
    for start in (0..k).step_by(BLOCK) {
        let mut parts = [[_mm256_setzero_ps(); 2]; T];
        for column in start..k.min(start + BLOCK) {
            // SAFETY: the panel and the rows of activations have `k` columns.
            unsafe {
                let low = _mm256_load_ps(panel.add(column * PANEL));
                let high = _mm256_load_ps(panel.add(column * PANEL + PANEL / 2));
                for (i, part) in parts.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*job.args.x.row(token + i).add(column));
                    part[0] = _mm256_fmadd_ps(low, x, part[0]);
                    part[1] = _mm256_fmadd_ps(high, x, part[1]);
                }
            }
        }
        for (sums, part) in sums.iter_mut().zip(parts) {
            for (half, part) in part.into_iter().enumerate() {
                // SAFETY: the sums are two registers long.
                unsafe {
                    let sums = sums.as_mut_ptr().add(half * PANEL / 2);
                    _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), part));
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: the sums are two registers long; the rows are this worker's.
        unsafe {
            let sums = [_mm256_loadu_ps(sums.as_ptr()), _mm256_loadu_ps(sums.as_ptr().add(PANEL / 2))];
            store(job.args, token + i, rows.start, rows.len(), sums);
        }
    }
    T
}
