//! Integer products: signed bytes multiplied to 16 bits, and adjacent products added to 32 bits.
//!
//! Every format's weights fit a signed byte after the offset is subtracted.

use std::arch::aarch64::*;
use std::ops::Range;

use super::{store, sum_lanes};
use crate::cpu::activations::{CHUNK, GROUP};
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::{Format, PANEL, PanelChunk, Unpacked};
use crate::cpu::linear::plain;
use crate::tensor::blocks::f16_field;

/// Computes a row of weights times every token, few tokens. See `plain::row`.
///
/// # Safety
/// As `plain::row`.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
unsafe fn row_times<F: Format, const T: usize>(job: &Quantized<'_>, row: usize, token: usize) -> usize {
    let weights = job.weight_row(row);
    let mut lanes = [[vdupq_n_f32(0.0); 4]; T];
    let mut unpacked = Unpacked::ZERO;
    for chunk in 0..job.layout.chunks() {
        // SAFETY: the row is in range.
        unsafe {
            let blocks = plain::chunk_of::<F>(weights, job.row_bytes, chunk);
            F::unpack(&blocks, &mut unpacked, f16_field);
            for (i, lanes) in lanes.iter_mut().enumerate() {
                add_chunk::<F>(job, &unpacked, token + i, chunk, lanes);
            }
        }
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        // SAFETY: the row is this worker's.
        unsafe { plain::store(job.args, token + i, row, sum_lanes(lanes)) };
    }
    T
}

/// Adds one chunk of a row, times a token, to its lanes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_chunk<F: Format>(
    job: &Quantized<'_>,
    weights: &Unpacked,
    token: usize,
    chunk: usize,
    lanes: &mut [float32x4_t; 4],
) {
    let (x, layout) = (job.token(token), job.layout);
    // SAFETY: each array of the row holds `layout.chunks()` chunks.
    unsafe {
        let d: *const f32 = x.add(layout.d() + chunk * 32).cast();
        for half in 0..CHUNK / 16 {
            let q = vld1q_u8(weights.q.as_ptr().add(16 * half));
            let x = vld1q_s8(x.add(layout.q() + chunk * CHUNK + 16 * half).cast());
            let dot = vcvtq_f32_s32(dot::<F>(q, x));
            let scale = weights.scale[if F::FINE { half } else { half / 2 }] * *d.add(half / 2);
            lanes[half % 4] = vfmaq_f32(lanes[half % 4], dot, vdupq_n_f32(scale));
        }
        if F::MIN {
            let (sums, registers) = if F::FINE { (layout.min16(), 4) } else { (layout.min32(), 2) };
            let sums: *const f32 = x.add(sums + chunk * 16 * registers).cast();
            for (i, lanes) in lanes[..registers].iter_mut().enumerate() {
                let min = vld1q_f32(weights.min.as_ptr().add(4 * i));
                *lanes = vfmaq_f32(*lanes, min, vld1q_f32(sums.add(4 * i)));
            }
        }
    }
}

/// Products of four adjacent weights in each lane, with the offset removed.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn dot<F: Format>(q: uint8x16_t, x: int8x16_t) -> int32x4_t {
    let q = vreinterpretq_s8_u8(vsubq_u8(q, vdupq_n_u8(F::OFFSET)));
    let low = vpaddlq_s16(vmull_s8(vget_low_s8(q), vget_low_s8(x)));
    let high = vpaddlq_s16(vmull_high_s8(q, x));
    vpaddq_s32(low, high)
}

/// Computes panels of weights times every token, many tokens. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, with room at `own` for all the panels.
#[target_feature(enable = "neon")]
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
        let tile = if job.args.tokens - token >= 4 { 4 } else { 1 };
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
#[target_feature(enable = "neon")]
unsafe fn unpack_panel<F: Format>(job: &Quantized<'_>, panel: usize, own: *mut PanelChunk) {
    let mut unpacked = Unpacked::ZERO;
    for row in 0..PANEL {
        let weights = job.weight_row((panel * PANEL + row).min(job.args.n_out - 1));
        for chunk in 0..job.layout.chunks() {
            // SAFETY: the row is in range, and there is room for the chunk.
            unsafe {
                let blocks = plain::chunk_of::<F>(weights, job.row_bytes, chunk);
                F::unpack(&blocks, &mut unpacked, f16_field);
                (*own.add(chunk)).put(row, &unpacked);
            }
        }
    }
}

/// A panel times `T` tokens from `token` on.
#[target_feature(enable = "neon")]
unsafe fn tile_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    panel: usize,
    weights: *const PanelChunk,
    token: usize,
) {
    let mut sums = [[vdupq_n_f32(0.0); 4]; T];
    for chunk in 0..job.layout.chunks() {
        // SAFETY: the panel has that many chunks.
        let weights = unsafe { &*weights.add(chunk) };
        for group in 0..CHUNK / GROUP {
            // Four rows at a time, as more would not fit the registers.
            for rows in 0..4 {
                // SAFETY: the activations have as many chunks; the caller vouches for the rest.
                unsafe { add_group::<F, T>(job, weights, token, (chunk, group), rows, &mut sums) };
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

/// Adds a group of 32 weights of four rows, times `T` tokens, to their sums.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_group<F: Format, const T: usize>(
    job: &Quantized<'_>,
    weights: &PanelChunk,
    token: usize,
    (chunk, group): (usize, usize),
    rows: usize,
    sums: &mut [[float32x4_t; 4]; T],
) {
    let layout = job.layout;
    let at = chunk * (CHUNK / GROUP) + group;
    // SAFETY: each array of a row of activations holds `layout.chunks()` chunks, and those of a panel
    // have 16 rows.
    unsafe {
        let float = |x: *const u8, offset: usize| vdupq_n_f32(*x.add(offset).cast::<f32>());
        let four = |values: &[f32; PANEL]| vld1q_f32(values.as_ptr().add(4 * rows));
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = job.token(token + i);
            let dots = |quads: Range<usize>| {
                let mut dots = vdupq_n_s32(0);
                for quad in quads {
                    let q = vld1q_u8(weights.q[group * 8 + quad].as_ptr().add(4 * rows).cast());
                    let x = *x.add(layout.q() + at * GROUP + 4 * quad).cast::<i32>();
                    dots = vaddq_s32(dots, dot::<F>(q, vreinterpretq_s8_s32(vdupq_n_s32(x))));
                }
                vcvtq_f32_s32(dots)
            };
            let sum = &mut sums[rows];
            let d = float(x, layout.d() + 4 * at);
            if F::FINE {
                let product = vmulq_f32(dots(0..4), four(&weights.scale[2 * group]));
                let product = vfmaq_f32(product, dots(4..8), four(&weights.scale[2 * group + 1]));
                *sum = vfmaq_f32(*sum, product, d);
                if F::MIN {
                    for half in 0..2 {
                        let total = float(x, layout.min16() + 8 * at + 4 * half);
                        *sum = vfmaq_f32(*sum, four(&weights.min[2 * group + half]), total);
                    }
                }
            } else {
                let product = vmulq_f32(dots(0..8), four(&weights.scale[group]));
                *sum = vfmaq_f32(*sum, product, d);
                if F::MIN {
                    let total = float(x, layout.min32() + 4 * at);
                    *sum = vfmaq_f32(*sum, four(&weights.min[group]), total);
                }
            }
        }
    }
}
