//! Products in f32.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{store, sum_lanes, transpose};
use crate::cpu::linear::PREFETCH;
use crate::cpu::linear::float::{BLOCK, Element, Job};
use crate::cpu::linear::format::PANEL;
use crate::cpu::linear::plain::{self, LANES};

/// Computes a row of weights times every token, few tokens.
///
/// # Safety
/// The row is this worker's; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn row_times<E: Element, const T: usize>(job: &Job<'_>, row: usize, token: usize) -> usize {
    let (weights, k) = (job.row(row), job.args.k);
    let x: [*const f32; T] = std::array::from_fn(|i| job.args.x.row(token + i));
    let mut lanes = [_mm512_setzero_ps(); T];
    let mut add = |column: usize, count: usize| {
        let at = weights.wrapping_add(column * E::BYTES);
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH).cast());
        let mask = if count == LANES { u16::MAX } else { (1 << count) - 1 };
        // SAFETY: rows of weights and activations have `k` values; no more are read.
        unsafe {
            let weights = E::read_avx512(at, count);
            for (lanes, x) in lanes.iter_mut().zip(&x) {
                let x = _mm512_maskz_loadu_ps(mask, x.add(column));
                *lanes = _mm512_fmadd_ps(weights, x, *lanes);
            }
        }
    };
    let whole = k / LANES * LANES;
    for column in (0..whole).step_by(LANES) {
        add(column, LANES);
    }
    if whole < k {
        add(whole, k - whole);
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        // SAFETY: the row is this worker's.
        unsafe { plain::store(job.args, token + i, row, sum_lanes(lanes)) };
    }
    T
}

/// Computes a panel of at most 16 rows times every token, many tokens.
///
/// # Safety
/// The rows are this worker's, and `own` has room for a panel; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::cpu::linear) unsafe fn panel<E: Element>(job: &Job<'_>, rows: Range<usize>, own: *mut f32) {
    // SAFETY: the rows are in range, and there is room for the panel.
    unsafe { unpack_panel::<E>(job, rows.clone(), own) };
    let mut token = 0;
    while token < job.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match job.args.tokens - token {
                8.. => tile_times::<8>(job, rows.clone(), own, token),
                4.. => tile_times::<4>(job, rows.clone(), own, token),
                2.. => tile_times::<2>(job, rows.clone(), own, token),
                _ => tile_times::<1>(job, rows.clone(), own, token),
            }
        };
    }
}

/// Unpacks 16 rows, column by column. Missing rows of the last panel repeat the last row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack_panel<E: Element>(job: &Job<'_>, rows: Range<usize>, own: *mut f32) {
    let starts: [*const u8; PANEL] = std::array::from_fn(|i| job.row((rows.start + i).min(rows.end - 1)));
    for column in (0..job.args.k).step_by(LANES) {
        let count = LANES.min(job.args.k - column);
        let mut block = [_mm512_setzero_si512(); PANEL];
        for (block, row) in block.iter_mut().zip(starts) {
            // SAFETY: rows have `k` elements; no more are read.
            *block = _mm512_castps_si512(unsafe { E::read_avx512(row.add(column * E::BYTES), count) });
        }
        for (i, values) in transpose(block).into_iter().enumerate() {
            // SAFETY: the panel has room for `k` columns, rounded up to 16.
            unsafe { _mm512_storeu_si512(own.add((column + i) * PANEL).cast(), values) };
        }
    }
}

/// A panel times `T` tokens from `token` on; gives `T`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn tile_times<const T: usize>(
    job: &Job<'_>,
    rows: Range<usize>,
    panel: *const f32,
    token: usize,
) -> usize {
    let k = job.args.k;
    let x: [*const f32; T] = std::array::from_fn(|i| job.args.x.row(token + i));
    let mut sums = [_mm512_setzero_ps(); T];
    for start in (0..k).step_by(BLOCK) {
        let mut parts = [_mm512_setzero_ps(); T];
        for column in start..k.min(start + BLOCK) {
            // SAFETY: the panel and the rows of activations have `k` columns.
            unsafe {
                let weights = _mm512_loadu_ps(panel.add(column * PANEL));
                for (part, x) in parts.iter_mut().zip(&x) {
                    *part = _mm512_fmadd_ps(weights, _mm512_set1_ps(*x.add(column)), *part);
                }
            }
        }
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = _mm512_add_ps(*sum, part);
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        // SAFETY: the rows are this worker's.
        unsafe { store(job.args, token + i, rows.start, rows.len(), sums) };
    }
    T
}
