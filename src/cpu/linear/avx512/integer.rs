//! Integer products: `vpdpbusd` of unsigned weights and signed activations.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Registers, store, sum_lanes, transpose};
use crate::cpu::activations::{CHUNK, GROUP};
use crate::cpu::linear::PREFETCH;
use crate::cpu::linear::dispatch::Quantized;
use crate::cpu::linear::format::{Format, PANEL, PanelChunk};
use crate::cpu::linear::plain;

/// Computes a row of weights times every token, few tokens. See `plain::row`.
///
/// # Safety
/// As `plain::row`; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn row_times<F: Format, const T: usize>(job: &Quantized<'_>, row: usize, token: usize) -> usize {
    let weights = job.weight_row(row);
    const { F::UNALIGNED };
    let bytes = size_of::<F::Chunk>();
    let whole = job.row_bytes / bytes;
    let mut lanes = [_mm512_setzero_ps(); T];
    for chunk in 0..whole {
        let at = weights.wrapping_add(chunk * bytes);
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH + line).cast());
        }
        // SAFETY: the chunk is inside the row, and the row inside the weights.
        lanes = unsafe { add_chunk::<F, T>(job, F::unpack_avx512(at.cast()), token, chunk, lanes) };
    }
    if whole < job.layout.chunks() {
        // SAFETY: the row is inside the weights, and its rest is copied and padded.
        lanes = unsafe {
            let rest = plain::chunk_of::<F>(weights, job.row_bytes, whole);
            add_chunk::<F, T>(job, F::unpack_avx512(&rest), token, whole, lanes)
        };
    }
    for (i, lanes) in lanes.into_iter().enumerate() {
        // SAFETY: the row is this worker's.
        unsafe { plain::store(job.args, token + i, row, sum_lanes(lanes)) };
    }
    T
}

/// Adds one chunk of a row, times `T` tokens, to their lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_chunk<F: Format, const T: usize>(
    job: &Quantized<'_>,
    weights: Registers,
    token: usize,
    chunk: usize,
    mut lanes: [__m512; T],
) -> [__m512; T] {
    let layout = job.layout;
    let offset = _mm512_set1_epi8(F::OFFSET as i8);
    // Lane i of product j holds weights 64j + 4i to 64j + 4i + 3.
    let (first, per_product, each_group) = if F::FINE {
        (
            _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
            4,
            _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),
        )
    } else {
        (
            _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
            2,
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7),
        )
    };
    for (i, lanes) in lanes.iter_mut().enumerate() {
        let x = job.token(token + i);
        // SAFETY: each array of the row holds `layout.chunks()` chunks.
        unsafe {
            let q: *const u8 = x.add(layout.q() + chunk * CHUNK);
            let d = _mm256_loadu_ps(x.add(layout.d() + chunk * 32).cast());
            let d = _mm512_castps256_ps512(d);
            let d = if F::FINE { _mm512_permutexvar_ps(each_group, d) } else { d };
            let scale = _mm512_mul_ps(weights.scale, d);
            for (j, &weights) in weights.q.iter().enumerate() {
                let x = _mm512_loadu_si512(q.add(64 * j).cast());
                let mut dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, x);
                if F::OFFSET != 0 {
                    let offset = _mm512_dpbusd_epi32(_mm512_setzero_si512(), offset, x);
                    dot = _mm512_sub_epi32(dot, offset);
                }
                let which = _mm512_add_epi32(first, _mm512_set1_epi32(per_product * j as i32));
                let scale = _mm512_permutexvar_ps(which, scale);
                *lanes = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *lanes);
            }
            if F::MIN && F::FINE {
                let sums = _mm512_loadu_ps(x.add(layout.min16() + chunk * 64).cast());
                *lanes = _mm512_fmadd_ps(weights.min, sums, *lanes);
            } else if F::MIN {
                let sums = _mm512_castps256_ps512(_mm256_loadu_ps(x.add(layout.min32() + chunk * 32).cast()));
                *lanes = _mm512_mask3_fmadd_ps(weights.min, sums, *lanes, 0xff);
            }
        }
    }
    lanes
}

/// Computes panels of weights times every token, many tokens. See `plain::panels`.
///
/// # Safety
/// As `plain::panels`, with room at `own` for all the panels; the machine has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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
        let tile = if left >= 8 { 8 } else { 1 << left.ilog2() };
        for (i, panel) in panels.clone().enumerate() {
            // SAFETY: tokens and panels are in range and the panels unpacked.
            unsafe {
                let own = own.add(i * chunks);
                match tile {
                    8 => tile_times::<F, 8>(job, panel, own, token),
                    4 => tile_times::<F, 4>(job, panel, own, token),
                    2 => tile_times::<F, 2>(job, panel, own, token),
                    _ => tile_times::<F, 1>(job, panel, own, token),
                }
            }
        }
        token += tile;
    }
}

/// Unpacks 16 rows. Missing rows of the last panel repeat the last row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn unpack_panel<F: Format>(job: &Quantized<'_>, panel: usize, own: *mut PanelChunk) {
    let mut rows = [std::ptr::null::<u8>(); PANEL];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = job.weight_row((panel * PANEL + i).min(job.args.n_out - 1));
    }
    let bytes = size_of::<F::Chunk>();
    // Sixteen rows are more streams than the hardware prefetches.
    let prefetch = |row: *const u8, chunk: usize| {
        for line in (0..bytes).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(chunk * bytes + line).cast());
        }
    };
    for row in rows {
        prefetch(row, 0);
        prefetch(row, 1);
    }
    let zero = _mm512_setzero_si512();
    for chunk in 0..job.layout.chunks() {
        let mut q = [[zero; PANEL]; 4];
        let mut scale = [zero; PANEL];
        let mut min = [zero; PANEL];
        for (i, row) in rows.iter().enumerate() {
            prefetch(*row, chunk + 2);
            // SAFETY: the chunk is inside the row, or it is copied and padded.
            let weights = unsafe {
                if (chunk + 1) * bytes <= job.row_bytes {
                    F::unpack_avx512(row.add(chunk * bytes).cast())
                } else {
                    F::unpack_avx512(&plain::chunk_of::<F>(*row, job.row_bytes, chunk))
                }
            };
            for (q, weights) in q.iter_mut().zip(weights.q) {
                q[i] = weights;
            }
            scale[i] = _mm512_castps_si512(weights.scale);
            min[i] = _mm512_castps_si512(weights.min);
        }
        // SAFETY: there is room for this chunk; its arrays have the sizes of what is stored.
        unsafe {
            let out = own.add(chunk);
            for (j, q) in q.into_iter().enumerate() {
                put((&raw mut (*out).q).cast::<u8>().add(j * 1024), transpose(q));
            }
            put((&raw mut (*out).scale).cast(), transpose(scale));
            if F::MIN {
                put((&raw mut (*out).min).cast(), transpose(min));
            }
        }
    }
}

/// Stores 16 registers consecutively.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn put(to: *mut u8, columns: [__m512i; 16]) {
    for (i, column) in columns.into_iter().enumerate() {
        // SAFETY: the caller has room for 16 registers.
        unsafe { _mm512_storeu_si512(to.add(64 * i).cast(), column) };
    }
}

/// A panel times `T` tokens from `token` on.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn tile_times<F: Format, const T: usize>(
    job: &Quantized<'_>,
    panel: usize,
    weights: *const PanelChunk,
    token: usize,
) {
    let layout = job.layout;
    let x: [*const u8; T] = std::array::from_fn(|i| job.token(token + i));
    let mut sums = [_mm512_setzero_ps(); T];
    for chunk in 0..layout.chunks() {
        // SAFETY: the panel has that many chunks, and the activations as well.
        unsafe {
            let weights = &*weights.add(chunk);
            for group in 0..CHUNK / GROUP {
                sums = add_group::<F, T>(layout, weights, &x, chunk, group, sums);
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

/// Adds a group of 32 weights of 16 rows, times `T` tokens, to their sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add_group<F: Format, const T: usize>(
    layout: crate::cpu::activations::Layout,
    weights: &PanelChunk,
    x: &[*const u8; T],
    chunk: usize,
    group: usize,
    mut sums: [__m512; T],
) -> [__m512; T] {
    let at = chunk * (CHUNK / GROUP) + group;
    // SAFETY: each array of a row holds `layout.chunks()` chunks, and so does the panel.
    unsafe {
        let dots = |quads: Range<usize>, start: usize| {
            let mut dots = [_mm512_setzero_si512(); T];
            if F::OFFSET != 0 {
                for (dot, x) in dots.iter_mut().zip(x) {
                    let sum = _mm512_set1_epi32(x.add(start).cast::<i32>().read_unaligned());
                    *dot = _mm512_sllv_epi32(sum, _mm512_set1_epi32(F::OFFSET.trailing_zeros() as i32));
                }
            }
            for quad in quads {
                let weights = _mm512_load_si512(weights.q[group * 8 + quad].as_ptr().cast());
                for (dot, x) in dots.iter_mut().zip(x) {
                    let x = x.add(layout.q() + at * GROUP + 4 * quad).cast::<i32>().read_unaligned();
                    *dot = _mm512_dpbusd_epi32(*dot, weights, _mm512_set1_epi32(x));
                }
            }
            dots
        };
        let value =
            |offset: usize| move |x: *const u8| _mm512_set1_ps(x.add(offset).cast::<f32>().read_unaligned());
        let d = value(layout.d() + 4 * at);
        if F::FINE {
            let scale = [
                _mm512_load_ps(weights.scale[2 * group].as_ptr()),
                _mm512_load_ps(weights.scale[2 * group + 1].as_ptr()),
            ];
            let low = dots(0..4, layout.sum16() + 8 * at);
            let mut products = [_mm512_setzero_ps(); T];
            for (product, low) in products.iter_mut().zip(low) {
                *product = _mm512_mul_ps(_mm512_cvtepi32_ps(low), scale[0]);
            }
            let high = dots(4..8, layout.sum16() + 8 * at + 4);
            for (i, sum) in sums.iter_mut().enumerate() {
                let product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[i]), scale[1], products[i]);
                *sum = _mm512_fmadd_ps(product, d(x[i]), *sum);
            }
            if F::MIN {
                for half in 0..2 {
                    let min = _mm512_load_ps(weights.min[2 * group + half].as_ptr());
                    let total = value(layout.min16() + 8 * at + 4 * half);
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = _mm512_fmadd_ps(min, total(*x), *sum);
                    }
                }
            }
        } else {
            let scale = _mm512_load_ps(weights.scale[group].as_ptr());
            let dots = dots(0..8, layout.sum32() + 4 * at);
            for (i, sum) in sums.iter_mut().enumerate() {
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[i]), scale);
                *sum = _mm512_fmadd_ps(product, d(x[i]), *sum);
            }
            if F::MIN {
                let min = _mm512_load_ps(weights.min[group].as_ptr());
                let total = value(layout.min32() + 4 * at);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_fmadd_ps(min, total(*x), *sum);
                }
            }
        }
    }
    sums
}
