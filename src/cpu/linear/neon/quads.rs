//! Integer products of few tokens in the order of sums of panels: four rows at a time are multiplied while unpacked.
//!
//! Pairs of lanes are added until the four rows' sums are in adjacent lanes.

use std::arch::aarch64::*;
use std::ops::Range;

use super::integer::dot;
use crate::cpu::activations::{CHUNK, GROUP};
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::{Format, Unpacked};
use crate::cpu::linear::plain;
use crate::cpu::linear::quads::ROWS;
use crate::tensor::blocks::f16_field;

/// Computes rows of weights times every token. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, for rows.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
unsafe fn quad_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    rows: Range<usize>,
    token: usize,
) -> usize {
    let mut unpacked = [Unpacked::ZERO; ROWS];
    let mut sums = [vdupq_n_f32(0.0); T];
    for chunk in 0..job.layout.chunks() {
        for (i, unpacked) in unpacked.iter_mut().enumerate() {
            let row = job.weight_row((rows.start + i).min(rows.end - 1));
            // SAFETY: the row is in range.
            let blocks = unsafe { plain::chunk_of::<F>(row, job.row_bytes, chunk) };
            F::unpack(&blocks, unpacked, f16_field);
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            for group in 0..CHUNK / GROUP {
                // SAFETY: the token is in range.
                *sums =
                    unsafe { add_group::<F>(job, &unpacked, job.token(token + i), (chunk, group), *sums) };
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let mut values = [0f32; ROWS];
        // SAFETY: the array holds the register, and the rows are this worker's.
        unsafe {
            vst1q_f32(values.as_mut_ptr(), sums);
            for (row, value) in rows.clone().zip(values) {
                plain::store(job.args, token + i, row, value);
            }
        }
    }
    T
}

/// Adds a group of 32 weights of four rows, times a token, to their sums.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_group<F: Format>(
    job: &Quantized<'_>,
    quad: &[Unpacked; ROWS],
    x: *const u8,
    (chunk, group): (usize, usize),
    mut sums: float32x4_t,
) -> float32x4_t {
    let layout = job.layout;
    let at = chunk * (CHUNK / GROUP) + group;
    // SAFETY: each array of the row of activations holds `layout.chunks()` chunks, and those of the quad a chunk.
    unsafe {
        let codes: *const i8 = x.add(layout.q() + at * GROUP).cast();
        let dots = |row: usize, half: usize| {
            let q = vld1q_u8(quad[row].q.as_ptr().add(group * GROUP + 16 * half));
            dot::<F>(q, vld1q_s8(codes.add(16 * half)))
        };
        let side_by_side = |row: &dyn Fn(usize) -> int32x4_t| {
            vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(row(0), row(1)), vpaddq_s32(row(2), row(3))))
        };
        let four = |value: &dyn Fn(&Unpacked) -> f32| {
            let values = [value(&quad[0]), value(&quad[1]), value(&quad[2]), value(&quad[3])];
            vld1q_f32(values.as_ptr())
        };
        let value = |offset: usize| vdupq_n_f32(*x.add(offset).cast::<f32>());
        let product = if F::FINE {
            let first = side_by_side(&|row| dots(row, 0));
            let second = side_by_side(&|row| dots(row, 1));
            let product = vmulq_f32(first, four(&|row| row.scale[2 * group]));
            vfmaq_f32(product, second, four(&|row| row.scale[2 * group + 1]))
        } else {
            let all = side_by_side(&|row| vaddq_s32(dots(row, 0), dots(row, 1)));
            vmulq_f32(all, four(&|row| row.scale[group]))
        };
        sums = vfmaq_f32(sums, product, value(layout.d() + 4 * at));
        if F::MIN && F::FINE {
            for half in 0..2 {
                let min = four(&|row| row.min[2 * group + half]);
                sums = vfmaq_f32(sums, min, value(layout.min16() + 8 * at + 4 * half));
            }
        } else if F::MIN {
            sums = vfmaq_f32(sums, four(&|row| row.min[group]), value(layout.min32() + 4 * at));
        }
    }
    sums
}
