//! Products in f32.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{store, sum_lanes, transpose};
use crate::cpu::linear::float::{BLOCK, Element, FloatProduct};
use crate::cpu::linear::format::PANEL;
use crate::cpu::linear::plain::{self, LANES};
use crate::cpu::linear::{FEW_TOKENS, PREFETCH};

/// Rows per pass over many tokens.
const ROWS: usize = 6;

/// Computes rows of weights times every token, in lanes.
///
/// # Safety
/// The rows are this worker's; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::cpu::linear) unsafe fn rows<E: Element>(product: &FloatProduct<'_>, rows: Range<usize>) {
    if product.args.tokens > FEW_TOKENS {
        // SAFETY: the caller vouches for it.
        return unsafe { rows_times_many::<E>(product, rows) };
    }
    for row in rows {
        let mut token = 0;
        while token < product.args.tokens {
            // SAFETY: the tokens are in range; the caller vouches for the rest.
            token += unsafe {
                match product.args.tokens - token {
                    4.. => rows_times::<E, 1, 4>(product, row, token),
                    2.. => rows_times::<E, 1, 2>(product, row, token),
                    _ => rows_times::<E, 1, 1>(product, row, token),
                }
            };
        }
    }
}

/// Rows that fit the cache, times many tokens, four tokens at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn rows_times_many<E: Element>(product: &FloatProduct<'_>, rows: Range<usize>) {
    let mut token = 0;
    while token < product.args.tokens {
        let tile = if product.args.tokens - token >= 4 { 4 } else { 1 };
        let mut row = rows.start;
        while row < rows.end {
            let wide = if rows.end - row >= ROWS { ROWS } else { 1 };
            // SAFETY: rows and tokens are in range; the caller vouches for the rest.
            unsafe {
                match (wide, tile) {
                    (ROWS, 4) => rows_times::<E, ROWS, 4>(product, row, token),
                    (ROWS, _) => rows_times::<E, ROWS, 1>(product, row, token),
                    (_, 4) => rows_times::<E, 1, 4>(product, row, token),
                    _ => rows_times::<E, 1, 1>(product, row, token),
                };
            }
            row += wide;
        }
        token += tile;
    }
}

/// `R` rows from `row` on times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn rows_times<E: Element, const R: usize, const T: usize>(
    product: &FloatProduct<'_>,
    row: usize,
    token: usize,
) -> usize {
    let k = product.args.k;
    let weights: [*const u8; R] = std::array::from_fn(|i| product.row(row + i));
    let x: [*const f32; T] = std::array::from_fn(|i| product.args.x.row(token + i));
    let mut lanes = [[_mm512_setzero_ps(); T]; R];
    let mut add = |column: usize, count: usize| {
        let mask = if count == LANES { u16::MAX } else { (1 << count) - 1 };
        // SAFETY: rows of weights and activations have `k` values; no more are read.
        unsafe {
            let mut of_rows = [_mm512_setzero_ps(); R];
            for (of_row, weights) in of_rows.iter_mut().zip(weights) {
                let at = weights.wrapping_add(column * E::BYTES);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH).cast());
                *of_row = E::read_avx512(at, count);
            }
            for (i, x) in x.iter().enumerate() {
                let x = _mm512_maskz_loadu_ps(mask, x.add(column));
                for (lanes, of_row) in lanes.iter_mut().zip(of_rows) {
                    lanes[i] = _mm512_fmadd_ps(of_row, x, lanes[i]);
                }
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
    for (r, lanes) in lanes.into_iter().enumerate() {
        for (i, lanes) in lanes.into_iter().enumerate() {
            // SAFETY: the rows are this worker's.
            unsafe { plain::store(product.args, token + i, row + r, sum_lanes(lanes)) };
        }
    }
    T
}

/// Computes a panel of at most 16 rows times every token.
///
/// # Safety
/// The rows are this worker's, and `own` has room for a panel; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::cpu::linear) unsafe fn panel<E: Element>(
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    own: *mut f32,
) {
    // SAFETY: the rows are in range, and there is room for the panel.
    unsafe { unpack_panel::<E>(product, rows.clone(), own) };
    let mut token = 0;
    while token < product.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match product.args.tokens - token {
                8.. => tile_times::<8>(product, rows.clone(), own, token),
                4.. => tile_times::<4>(product, rows.clone(), own, token),
                2.. => tile_times::<2>(product, rows.clone(), own, token),
                _ => tile_times::<1>(product, rows.clone(), own, token),
            }
        };
    }
}

/// Unpacks 16 rows, column by column. Missing rows of the last panel repeat the last row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack_panel<E: Element>(product: &FloatProduct<'_>, rows: Range<usize>, own: *mut f32) {
    let starts: [*const u8; PANEL] = std::array::from_fn(|i| product.row((rows.start + i).min(rows.end - 1)));
    for column in (0..product.args.k).step_by(LANES) {
        let count = LANES.min(product.args.k - column);
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

/// A panel times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn tile_times<const T: usize>(
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    panel: *const f32,
    token: usize,
) -> usize {
    let k = product.args.k;
    let x: [*const f32; T] = std::array::from_fn(|i| product.args.x.row(token + i));
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
        unsafe { store(product.args, token + i, rows.start, rows.len(), sums) };
    }
    T
}
