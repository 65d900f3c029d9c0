//! Products in f32: of plain weights, and of every block format without an integer product, whose
//! weights are dequantized on the way.
//!
//! Few tokens: lane `i` of 16 sums the products of columns `i`, `i + 16`, …, one fused
//! multiplication and addition each; then the lanes are added as `plain::sum_lanes` does.
//! Many tokens: the products are summed in order, in blocks of [`BLOCK`] columns, and the blocks'
//! sums are added in order.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::dispatch::rows_at_once;
use super::format::PANEL;
use super::plain::{LANES, store, sum_lanes};
use super::{FEW_TOKENS, Isa, Linear, Worker};
use crate::tensor::DType;
use crate::tensor::blocks::{self, f16_field};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Columns that many-token kernels sum before they add to the total: it keeps rounding errors small.
pub(super) const BLOCK: usize = 256;

/// A plain element type.
pub(super) trait Element {
    /// Bytes of an element.
    const BYTES: usize;

    /// The element at `at`, exactly; `half` converts an f16.
    ///
    /// # Safety
    /// `at` points to an element.
    unsafe fn read(at: *const u8, half: impl Fn([u8; 2]) -> f32) -> f32;

    /// Eight elements.
    ///
    /// # Safety
    /// `at` points to eight elements; the machine has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn read_avx2(at: *const u8) -> __m256;

    /// Sixteen elements, the first `count` of them read and the rest zero.
    ///
    /// # Safety
    /// `at` points to at least `count` elements; the machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn read_avx512(at: *const u8, count: usize) -> __m512;
}

/// IEEE single precision.
pub(super) struct F32;
/// IEEE half precision.
pub(super) struct F16;
/// The upper half of single precision.
pub(super) struct BF16;

/// A product with f32 activations, as kernels get it.
pub(super) struct Job<'a> {
    pub(super) args: &'a Linear<'a>,
    /// First row of weights, plain or dequantized.
    pub(super) weight: *const u8,
    /// Bytes in a row of them.
    pub(super) row_bytes: usize,
    /// Number of the first row.
    pub(super) first: usize,
}

impl Job<'_> {
    /// Start of the weights of row `row` of the product.
    pub(super) fn row(&self, row: usize) -> *const u8 {
        self.weight.wrapping_add((row - self.first) * self.row_bytes)
    }
}

/// Whether rows of a type are multiplied where they lie.
fn is_plain(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Bytes of scratch memory for each worker; `None` on overflow.
pub(super) fn scratch(dtype: DType, k: usize, tokens: usize) -> Option<usize> {
    let rows = if tokens > FEW_TOKENS { PANEL } else { 1 };
    let dequantized = if is_plain(dtype) { 0 } else { k.checked_mul(size_of::<f32>() * rows)? };
    let panel = if tokens > FEW_TOKENS { panel_bytes(k)? } else { 0 };
    dequantized.checked_add(panel)
}

/// Bytes of a panel: 16 weights of a column side by side.
fn panel_bytes(k: usize) -> Option<usize> {
    k.checked_next_multiple_of(LANES)?.checked_mul(PANEL * size_of::<f32>())
}

/// Rows that a worker takes at a time.
pub(super) fn rows_dealt(dtype: DType, k: usize, n_out: usize, tokens: usize, workers: usize) -> usize {
    match dtype.row_bytes(k) {
        _ if tokens > FEW_TOKENS => PANEL,
        Some(row_bytes) if is_plain(dtype) => rows_at_once(n_out, row_bytes, workers),
        _ => 1,
    }
}

/// Computes a product together with the other workers.
///
/// # Safety
/// The contract of [`super::linear`]; `args` is checked and `own` has [`scratch`] bytes for this
/// worker alone, aligned to a cache line.
pub(super) unsafe fn run(worker: &Worker<'_>, isa: Isa, args: &Linear<'_>, own: *mut u8) {
    let deal = rows_dealt(args.dtype, args.k, args.n_out, args.tokens, worker.count());
    worker.for_chunks(args.n_out, deal, |rows| {
        // SAFETY: the rows are dealt to this worker alone; the caller vouches for the rest.
        unsafe { multiply(isa, args, rows, own) }
    });
}

/// Multiplies rows of weights with every token.
///
/// # Safety
/// Sizes are checked, no other worker computes these rows, and `own` is as [`run`] wants it.
pub(super) unsafe fn multiply(isa: Isa, args: &Linear<'_>, rows: Range<usize>, own: *mut u8) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match args.dtype {
            DType::F32 => typed::<F32>(isa, args, rows, own),
            DType::F16 => typed::<F16>(isa, args, rows, own),
            DType::BF16 => typed::<BF16>(isa, args, rows, own),
            _ => dequantized(isa, args, rows, own),
        }
    }
}

/// # Safety
/// That of [`multiply`], and the weights are `E`.
unsafe fn typed<E: Element>(isa: Isa, args: &Linear<'_>, rows: Range<usize>, own: *mut u8) {
    let job = Job { args, weight: args.weight.as_ptr(), row_bytes: args.k * E::BYTES, first: 0 };
    // Panels have so many rows; few tokens have none, and take the run as it is.
    let most = if args.tokens <= FEW_TOKENS { rows.len().max(1) } else { PANEL };
    for rows in pieces(rows, most) {
        // SAFETY: the caller vouches for it; `own` has room for a panel.
        unsafe { multiply_rows::<E>(isa, &job, rows, own.cast()) }
    }
}

/// # Safety
/// That of [`multiply`], and the weights have a block format.
unsafe fn dequantized(isa: Isa, args: &Linear<'_>, rows: Range<usize>, own: *mut u8) {
    let (few, k) = (args.tokens <= FEW_TOKENS, args.k);
    let bytes = k / args.dtype.block_elements() * args.dtype.block_bytes();
    let panel = own.cast::<f32>();
    // The panel comes first: it wants to be aligned.
    let rows_at = own.wrapping_add(if few { 0 } else { panel_bytes(k).unwrap_or(0) }).cast::<f32>();
    for rows in pieces(rows, if few { 1 } else { PANEL }) {
        for (i, row) in rows.clone().enumerate() {
            // SAFETY: there is room for so many rows after the panel; it is aligned, and scratch memory is
            // initialized.
            let out = unsafe { std::slice::from_raw_parts_mut(rows_at.add(i * k), k) };
            let result = blocks::dequantize(args.dtype, &args.weight[row * bytes..][..bytes], out);
            debug_assert!(result.is_ok(), "sizes are checked: {result:?}");
        }
        let job = Job { args, weight: rows_at.cast(), row_bytes: k * size_of::<f32>(), first: rows.start };
        // SAFETY: the caller vouches for it; `own` has room for a panel.
        unsafe { multiply_rows::<F32>(isa, &job, rows, panel) }
    }
}

/// Cuts rows into runs of at most `most`.
fn pieces(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(most).map(move |first| first..rows.end.min(first + most))
}

/// # Safety
/// That of [`multiply`]; the rows, of type `E`, are this worker's, and `panel` has room for a panel if
/// there are many tokens.
unsafe fn multiply_rows<E: Element>(isa: Isa, job: &Job<'_>, rows: Range<usize>, panel: *mut f32) {
    let few = job.args.tokens <= FEW_TOKENS;
    // SAFETY: the caller vouches for it.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if few => rows.for_each(|row| avx512::float::row::<E>(job, row)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::float::panel::<E>(job, rows, panel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if few => rows.for_each(|row| avx2::float::row::<E>(job, row)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::float::panel::<E>(job, rows, panel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if few => rows.for_each(|row| neon::float::row::<E>(job, row)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::float::panel::<E>(job, rows, panel),
            _ if few => rows.for_each(|row| plain_row::<E>(job, row)),
            _ => rows.for_each(|row| plain_in_order::<E>(job, row)),
        }
    }
}

/// # Safety
/// The row is this worker's.
unsafe fn plain_row<E: Element>(job: &Job<'_>, row: usize) {
    let weights = job.row(row);
    for token in 0..job.args.tokens {
        let x = job.args.x.row(token);
        let mut lanes = [0f32; LANES];
        for column in 0..job.args.k.next_multiple_of(LANES) {
            let (w, x) = if column < job.args.k {
                // SAFETY: rows of weights and activations have `k` values.
                unsafe { (E::read(weights.add(column * E::BYTES), f16_field), *x.add(column)) }
            } else {
                (0.0, 0.0)
            };
            let lane = &mut lanes[column % LANES];
            *lane = w.mul_add(x, *lane);
        }
        // SAFETY: the value is this worker's.
        unsafe { store(job.args, token, row, sum_lanes(lanes)) };
    }
}

/// # Safety
/// The row is this worker's.
unsafe fn plain_in_order<E: Element>(job: &Job<'_>, row: usize) {
    let weights = job.row(row);
    for token in 0..job.args.tokens {
        let x = job.args.x.row(token);
        let mut sum = 0f32;
        for start in (0..job.args.k).step_by(BLOCK) {
            let mut part = 0f32;
            for column in start..job.args.k.min(start + BLOCK) {
                // SAFETY: rows of weights and activations have `k` values.
                part = unsafe {
                    E::read(weights.add(column * E::BYTES), f16_field).mul_add(*x.add(column), part)
                };
            }
            sum += part;
        }
        // SAFETY: the value is this worker's.
        unsafe { store(job.args, token, row, sum) };
    }
}

impl Element for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn read(at: *const u8, _: impl Fn([u8; 2]) -> f32) -> f32 {
        // SAFETY: the caller has an element there; bytes have any alignment.
        f32::from_le_bytes(unsafe { *at.cast() })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller has eight elements there.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn read_avx512(at: *const u8, count: usize) -> __m512 {
        // SAFETY: lanes past `count` are not read.
        unsafe { _mm512_maskz_loadu_ps(first_lanes(count), at.cast()) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn read(at: *const u8, half: impl Fn([u8; 2]) -> f32) -> f32 {
        // SAFETY: the caller has an element there; bytes have any alignment.
        half(unsafe { *at.cast() })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller has eight elements there.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn read_avx512(at: *const u8, count: usize) -> __m512 {
        // SAFETY: lanes past `count` are not read.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(first_lanes(count), at.cast()) })
    }
}

impl Element for BF16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn read(at: *const u8, _: impl Fn([u8; 2]) -> f32) -> f32 {
        // SAFETY: the caller has an element there; bytes have any alignment.
        f32::from_bits(u32::from(u16::from_le_bytes(unsafe { *at.cast() })) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller has eight elements there.
        let halves = unsafe { _mm_loadu_si128(at.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn read_avx512(at: *const u8, count: usize) -> __m512 {
        // SAFETY: lanes past `count` are not read.
        let halves = unsafe { _mm256_maskz_loadu_epi16(first_lanes(count), at.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}

/// A mask of the first `count` of 16 lanes; of all for more.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}
