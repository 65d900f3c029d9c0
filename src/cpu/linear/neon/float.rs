//! Products in f32.

use std::arch::aarch64::*;
use std::ops::Range;

use super::{store, sum_lanes};
use crate::cpu::linear::FEW_TOKENS;
use crate::cpu::linear::float::{BLOCK, Element, FloatProduct};
use crate::cpu::linear::format::PANEL;
use crate::cpu::linear::plain::{self, LANES};
use crate::tensor::blocks::f16_field;

/// Computes rows of weights times every token, in lanes.
///
/// # Safety
/// The rows are this worker's.
#[target_feature(enable = "neon")]
pub(in crate::cpu::linear) unsafe fn rows<E: Element>(product: &FloatProduct<'_>, rows: Range<usize>) {
    // Few tokens read a row once; of many tokens, four at a time are multiplied with all rows, which the cache holds.
    let at_once = if product.args.tokens > FEW_TOKENS { 4 } else { FEW_TOKENS };
    for first in (0..product.args.tokens).step_by(at_once) {
        let end = product.args.tokens.min(first + at_once);
        for row in rows.clone() {
            // SAFETY: the tokens are in range; the caller vouches for the rest.
            unsafe { row_times_tokens::<E>(product, row, first..end) };
        }
    }
}

/// One row times some tokens.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn row_times_tokens<E: Element>(product: &FloatProduct<'_>, row: usize, tokens: Range<usize>) {
    let mut token = tokens.start;
    while token < tokens.end {
        // SAFETY: the tokens are in range; the caller vouches for the rest.
        token += unsafe {
            match tokens.end - token {
                4.. => row_times::<E, 4>(product, row, token),
                _ => row_times::<E, 1>(product, row, token),
            }
        };
    }
}

/// One row times `T` tokens from `token` on; returns `T`.
#[target_feature(enable = "neon")]
unsafe fn row_times<E: Element, const T: usize>(
    product: &FloatProduct<'_>,
    row: usize,
    token: usize,
) -> usize {
    let (weights, k) = (product.row(row), product.args.k);
    let mut lanes = [[vdupq_n_f32(0.0); 4]; T];
    for column in (0..k).step_by(LANES) {
        let count = LANES.min(k - column);
        // Lanes past the end add zero, as in the other kernels.
        let mut w = [0f32; LANES];
        for (i, w) in w[..count].iter_mut().enumerate() {
            // SAFETY: rows of weights have `k` elements.
            *w = unsafe { E::read(weights.add((column + i) * E::BYTES), f16_field) };
        }
        for (i, lanes) in lanes.iter_mut().enumerate() {
            let mut x = [0f32; LANES];
            // SAFETY: rows of activations have `k` values; arrays of 16 are four registers.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    product.args.x.row(token + i).add(column),
                    x.as_mut_ptr(),
                    count,
                );
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    let (w, x) = (vld1q_f32(w.as_ptr().add(4 * j)), vld1q_f32(x.as_ptr().add(4 * j)));
                    *lanes = vfmaq_f32(*lanes, w, x);
                }
            }
        }
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        // SAFETY: the row is this worker's.
        unsafe { plain::store(product.args, token + i, row, sum_lanes(lanes)) };
    }
    T
}

/// Computes a panel of at most 16 rows times every token.
///
/// # Safety
/// The rows are this worker's, and `own` has room for a panel.
#[target_feature(enable = "neon")]
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
            unsafe { *own.add(column * PANEL + i) = E::read(row.add(column * E::BYTES), f16_field) };
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
#[target_feature(enable = "neon")]
unsafe fn tile_times<const T: usize>(
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    panel: *const f32,
    token: usize,
) -> usize {
    let k = product.args.k;
    let mut sums = [[vdupq_n_f32(0.0); 4]; T];
    for start in (0..k).step_by(BLOCK) {
        let mut parts = [[vdupq_n_f32(0.0); 4]; T];
        for column in start..k.min(start + BLOCK) {
            // SAFETY: the panel and the rows of activations have `k` columns.
            unsafe {
                for (i, parts) in parts.iter_mut().enumerate() {
                    let x = vdupq_n_f32(*product.args.x.row(token + i).add(column));
                    for (j, part) in parts.iter_mut().enumerate() {
                        *part = vfmaq_f32(*part, vld1q_f32(panel.add(column * PANEL + 4 * j)), x);
                    }
                }
            }
        }
        for (sums, parts) in sums.iter_mut().zip(parts) {
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = vaddq_f32(*sum, part);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        // SAFETY: the rows are this worker's.
        unsafe { store(product.args, token + i, rows.start, rows.len(), sums) };
    }
    T
}
