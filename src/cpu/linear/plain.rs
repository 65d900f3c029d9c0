//! The integer products in portable code, which define the result bit by bit.

use std::ops::Range;

use super::LinearArgs;
use super::dispatch::Quantized;
use super::format::{Format, PANEL, PanelChunk, Unpacked};
use crate::cpu::activations::{CHUNK, GROUP};
use crate::tensor::blocks::f16_field;

/// The number of lanes that sum a product in rows.
pub(super) const LANES: usize = 16;

/// The sum of all lanes: the halves are added to each other until one lane is left.
pub(super) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Adds bias and residual to a sum and stores it.
///
/// # Safety
/// `token` and `row` are in the ranges that the sizes of `args` were checked for, and no other
/// worker accesses this value.
#[inline(always)]
pub(super) unsafe fn store(args: &LinearArgs<'_>, token: usize, row: usize, sum: f32) {
    let sum = match args.bias {
        Some(bias) => sum + bias[row],
        None => sum,
    };
    // SAFETY: the caller vouches for it.
    unsafe {
        let sum = match &args.residual {
            Some(residual) => sum + *residual.row(token).add(row),
            None => sum,
        };
        *args.y.row(token).add(row) = sum;
    }
}

/// Chunk number `chunk` of a row of weights, with zeros past the row's end.
///
/// # Safety
/// `row` points to a row of `row_bytes` bytes.
#[inline(always)]
pub(super) unsafe fn chunk_of<F: Format>(row: *const u8, row_bytes: usize, chunk: usize) -> F::Chunk {
    let start = chunk * size_of::<F::Chunk>();
    let bytes = size_of::<F::Chunk>().min(row_bytes - start);
    let mut copy: F::Chunk = bytemuck::Zeroable::zeroed();
    // SAFETY: the bytes are within the row, and any bytes make a chunk.
    unsafe { std::ptr::copy_nonoverlapping(row.add(start), (&raw mut copy).cast::<u8>(), bytes) };
    copy
}

/// The arrays of one quantized row.
struct Activations<'a> {
    q: &'a [i8],
    d: &'a [f32],
    min32: &'a [f32],
    min16: &'a [f32],
}

impl Quantized<'_> {
    /// # Safety
    /// `token` is one of the product's, and its activations are written and aligned.
    unsafe fn activations(&self, token: usize) -> Activations<'_> {
        let (row, layout) = (self.token(token), self.layout);
        let k = layout.chunks() * CHUNK;
        // SAFETY: the layout's arrays have these lengths; rows are aligned to cache lines and the
        // arrays within them to 32 bytes.
        unsafe {
            Activations {
                q: std::slice::from_raw_parts(row.add(layout.q()).cast(), k),
                d: std::slice::from_raw_parts(row.add(layout.d()).cast(), k / GROUP),
                min32: std::slice::from_raw_parts(row.add(layout.min32()).cast(), k / GROUP),
                min16: std::slice::from_raw_parts(row.add(layout.min16()).cast(), k / 16),
            }
        }
    }
}

/// Computes a row of weights times every token, few tokens.
///
/// Lane `i` sums the products of four adjacent weights out of every 64; a minimum is added to the lane of its number in
/// the chunk.
///
/// # Safety
/// `F` is the format of the weights, sizes are checked, and no other worker computes this row.
pub(super) unsafe fn row<F: Format>(job: &Quantized<'_>, row: usize) {
    let weights = job.weight_row(row);
    let sub = if F::FINE { 16 } else { 32 };
    let mut unpacked = Unpacked::ZERO;
    for token in 0..job.args.tokens {
        // SAFETY: the token is in range.
        let x = unsafe { job.activations(token) };
        let mut lanes = [0f32; LANES];
        for chunk in 0..job.layout.chunks() {
            // SAFETY: the row is in range.
            F::unpack(&unsafe { chunk_of::<F>(weights, job.row_bytes, chunk) }, &mut unpacked, f16_field);
            for start in (0..CHUNK).step_by(4) {
                let at = chunk * CHUNK + start;
                let dot = integer_dot::<F>(&unpacked.q[start..start + 4], &x.q[at..at + 4]);
                let lane = &mut lanes[start / 4 % LANES];
                *lane = (dot as f32).mul_add(unpacked.scale[start / sub] * x.d[at / GROUP], *lane);
            }
            if F::MIN {
                let mins = CHUNK / sub;
                let sums = if F::FINE { x.min16 } else { x.min32 };
                for (i, lane) in lanes[..mins].iter_mut().enumerate() {
                    *lane = unpacked.min[i].mul_add(sums[chunk * mins + i], *lane);
                }
            }
        }
        // SAFETY: the value is this worker's.
        unsafe { store(job.args, token, row, sum_lanes(lanes)) };
    }
}

/// The exact product of a few weights, with the offset removed, and quantized activations.
fn integer_dot<F: Format>(q: &[u8], x: &[i8]) -> i32 {
    q.iter().zip(x).map(|(&q, &x)| (i32::from(q) - i32::from(F::OFFSET)) * i32::from(x)).sum()
}

/// Computes panels of weights times every token, many tokens.
///
/// Groups of 32 weights are added in order.
///
/// # Safety
/// `F` is the format of the weights, sizes are checked, and no other worker computes these panels.
/// `own` has room for the panels.
pub(super) unsafe fn panels<F: Format>(job: &Quantized<'_>, panels: Range<usize>, own: *mut PanelChunk) {
    let chunks = job.layout.chunks();
    for panel in panels {
        let rows = panel * PANEL..job.args.n_out.min((panel + 1) * PANEL);
        // SAFETY: there is room for at least one panel. Zeros are a valid panel.
        let unpacked = unsafe {
            std::ptr::write_bytes(own, 0, chunks);
            std::slice::from_raw_parts_mut(own, chunks)
        };
        for row in rows.clone() {
            for (chunk, panel) in unpacked.iter_mut().enumerate() {
                // SAFETY: the row is in range.
                let blocks = unsafe { chunk_of::<F>(job.weight_row(row), job.row_bytes, chunk) };
                let mut unpacked = Unpacked::ZERO;
                F::unpack(&blocks, &mut unpacked, f16_field);
                panel.put(row % PANEL, &unpacked);
            }
        }
        for token in 0..job.args.tokens {
            // SAFETY: the token is in range.
            let x = unsafe { job.activations(token) };
            for row in rows.clone() {
                let sum = panel_row::<F>(unpacked, row % PANEL, &x);
                // SAFETY: the value is this worker's.
                unsafe { store(job.args, token, row, sum) };
            }
        }
    }
}

impl PanelChunk {
    /// Writes one row's weights.
    pub(super) fn put(&mut self, row: usize, unpacked: &Unpacked) {
        for (to, from) in self.q.iter_mut().zip(unpacked.q.as_chunks::<4>().0) {
            to[row] = *from;
        }
        for (to, from) in self.scale.iter_mut().zip(unpacked.scale) {
            to[row] = from;
        }
        for (to, from) in self.min.iter_mut().zip(unpacked.min) {
            to[row] = from;
        }
    }
}

/// One row of a panel times one token.
fn panel_row<F: Format>(panel: &[PanelChunk], row: usize, x: &Activations<'_>) -> f32 {
    let mut sum = 0f32;
    for (group, (q, d)) in x.q.chunks_exact(GROUP).zip(x.d).enumerate() {
        let (chunk, group_in_chunk) = (&panel[group / (CHUNK / GROUP)], group % (CHUNK / GROUP));
        let dot = |quads: Range<usize>| {
            let dot =
                |i: usize| integer_dot::<F>(&chunk.q[group_in_chunk * 8 + i][row], &q[4 * i..4 * i + 4]);
            quads.map(dot).sum::<i32>() as f32
        };
        if F::FINE {
            let sub = 2 * group_in_chunk;
            let product = dot(0..4) * chunk.scale[sub][row];
            let product = dot(4..8).mul_add(chunk.scale[sub + 1][row], product);
            sum = product.mul_add(*d, sum);
            if F::MIN {
                sum = chunk.min[sub][row].mul_add(x.min16[2 * group], sum);
                sum = chunk.min[sub + 1][row].mul_add(x.min16[2 * group + 1], sum);
            }
        } else {
            sum = (dot(0..8) * chunk.scale[group_in_chunk][row]).mul_add(*d, sum);
            if F::MIN {
                sum = chunk.min[group_in_chunk][row].mul_add(x.min32[group], sum);
            }
        }
    }
    sum
}
