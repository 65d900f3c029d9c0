//! Products in f32.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{half, store, sum_lanes};
use crate::cpu::linear::float::{BLOCK, Element, FloatProduct};
use crate::cpu::linear::format::PANEL;
use crate::cpu::linear::plain::{self, LANES};
use crate::cpu::linear::{FEW_TOKENS, PREFETCH};

/// Rows per pass over many tokens, and tokens per tile.
const ROWS: usize = 2;
const TOKENS: usize = 3;

/// Computes rows of weights times every token, in lanes.
///
/// # Safety
/// The rows are this worker's; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
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

/// Rows that fit the cache, times many tokens, a few tokens at a time.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows_times_many<E: Element>(product: &FloatProduct<'_>, rows: Range<usize>) {
    let mut token = 0;
    while token < product.args.tokens {
        let tile = if product.args.tokens - token >= TOKENS { TOKENS } else { 1 };
        let mut row = rows.start;
        while row < rows.end {
            let wide = if rows.end - row >= ROWS { ROWS } else { 1 };
            // SAFETY: rows and tokens are in range; the caller vouches for the rest.
            unsafe {
                match (wide, tile) {
                    (ROWS, TOKENS) => rows_times::<E, ROWS, TOKENS>(product, row, token),
                    (ROWS, _) => rows_times::<E, ROWS, 1>(product, row, token),
                    (_, TOKENS) => rows_times::<E, 1, TOKENS>(product, row, token),
                    _ => rows_times::<E, 1, 1>(product, row, token),
                };
            }
            row += wide;
        }
        token += tile;
    }
}

/// `R` rows from `row` on times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows_times<E: Element, const R: usize, const T: usize>(
    product: &FloatProduct<'_>,
    row: usize,
    token: usize,
) -> usize {
    let whole = product.args.k / LANES * LANES;
    let weights: [*const u8; R] = std::array::from_fn(|i| product.row(row + i));
    let x: [*const f32; T] = std::array::from_fn(|i| product.args.x.row(token + i));
    let mut lanes = [[[_mm256_setzero_ps(); 2]; T]; R];
    for column in (0..whole).step_by(LANES) {
        for weights in weights {
            let at = weights.wrapping_add(column * E::BYTES + PREFETCH);
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
        for half in 0..2 {
            let at = column + half * LANES / 2;
            // SAFETY: rows of weights and activations have `k` values.
            unsafe {
                let mut of_rows = [_mm256_setzero_ps(); R];
                for (of_row, weights) in of_rows.iter_mut().zip(weights) {
                    *of_row = E::read_avx2(weights.add(at * E::BYTES));
                }
                for (i, x) in x.iter().enumerate() {
                    let x = _mm256_loadu_ps(x.add(at));
                    for (lanes, of_row) in lanes.iter_mut().zip(of_rows) {
                        lanes[i][half] = _mm256_fmadd_ps(of_row, x, lanes[i][half]);
                    }
                }
            }
        }
    }
    for (r, lanes) in lanes.into_iter().enumerate() {
        for (i, lanes) in lanes.into_iter().enumerate() {
            // SAFETY: the rows are this worker's.
            unsafe { finish::<E>(product, row + r, token + i, lanes) };
        }
    }
    T
}

/// Adds the columns after the last whole register to the lanes of a row and a token, and stores the sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn finish<E: Element>(product: &FloatProduct<'_>, row: usize, token: usize, lanes: [__m256; 2]) {
    let (weights, x, k) = (product.row(row), product.args.x.row(token), product.args.k);
    let mut values = [0f32; LANES];
    // SAFETY: the array holds both registers.
    unsafe {
        _mm256_storeu_ps(values.as_mut_ptr(), lanes[0]);
        _mm256_storeu_ps(values.as_mut_ptr().add(LANES / 2), lanes[1]);
    }
    let whole = k / LANES * LANES;
    if whole < k {
        // Lanes past the end add zero, as in the other kernels.
        for (lane, value) in values.iter_mut().enumerate() {
            let column = whole + lane;
            let (w, x) = if column < k {
                // SAFETY: rows of weights and activations have `k` values.
                unsafe { (read::<E>(weights.add(column * E::BYTES)), *x.add(column)) }
            } else {
                (0.0, 0.0)
            };
            *value = w.mul_add(x, *value);
        }
    }
    // SAFETY: the array holds both registers, and the row is this worker's.
    unsafe {
        let lanes = [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(LANES / 2))];
        plain::store(product.args, token, row, sum_lanes(lanes));
    }
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

/// Computes a panel of at most 16 rows times every token.
///
/// # Safety
/// The rows are this worker's, and `own` has room for a panel; the machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::cpu::linear) unsafe fn panel<E: Element>(
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    own: *mut f32,
) {
    for i in 0..PANEL {
        // Missing rows of the last panel repeat the last row.
        let row = product.row((rows.start + i).min(rows.end - 1));
        for column in 0..product.args.k {
            // SAFETY: rows have `k` elements, and there is room for the panel.
            unsafe { *own.add(column * PANEL + i) = read::<E>(row.add(column * E::BYTES)) };
        }
    }
    let mut token = 0;
    while token < product.args.tokens {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match product.args.tokens - token {
                4.. => tile_times::<4>(product, rows.clone(), own, token),
                _ => tile_times::<1>(product, rows.clone(), own, token),
            }
        };
    }
}

/// A panel times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_times<const T: usize>(
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    panel: *const f32,
    token: usize,
) -> usize {
    let k = product.args.k;
    let mut sums = [[0f32; PANEL]; T];
    for start in (0..k).step_by(BLOCK) {
        let mut parts = [[_mm256_setzero_ps(); 2]; T];
        for column in start..k.min(start + BLOCK) {
            // SAFETY: the panel and the rows of activations have `k` columns.
            unsafe {
                let low = _mm256_load_ps(panel.add(column * PANEL));
                let high = _mm256_load_ps(panel.add(column * PANEL + PANEL / 2));
                for (i, part) in parts.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*product.args.x.row(token + i).add(column));
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
            store(product.args, token + i, rows.start, rows.len(), sums);
        }
    }
    T
}
