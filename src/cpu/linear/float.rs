//! Products in f32, for plain weights.
//!
//! Rows: lane `i` of 16 sums the products of columns `i`, `i + 16`, … with fused multiply-adds; then the lanes are
//! added in the order of `plain::sum_lanes`. Panels: the products are summed in order, in blocks of [`BLOCK`] columns,
//! and the blocks' sums are added in order.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::dispatch::rows_at_once;
use super::format::PANEL;
use super::plain::{LANES, store, sum_lanes};
use super::{FEW_TOKENS, Isa, LinearArgs, ProductKernel, Worker};
use crate::tensor::DType;
use crate::tensor::blocks::f16_field;

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Columns that a panel sums before it adds them to the total, which keeps rounding errors small.
pub(super) const BLOCK: usize = 256;

/// Rows that are multiplied with a tile of tokens before the next tile.
const ROWS_AT_ONCE: usize = 24;

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

    /// Sixteen elements, of which the first `count` are read and the rest are zero.
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

/// A product with f32 activations, as passed to kernels.
pub(super) struct FloatProduct<'a> {
    pub(super) args: &'a LinearArgs<'a>,
    /// Bytes in a row of weights.
    pub(super) row_bytes: usize,
}

impl FloatProduct<'_> {
    /// Start of the weights of row `row` of the product.
    pub(super) fn row(&self, row: usize) -> *const u8 {
        self.args.weight.as_ptr().wrapping_add(row * self.row_bytes)
    }
}

/// Bytes of a panel, which stores 16 weights per column. `None` on overflow.
pub(super) fn panel_bytes(k: usize) -> Option<usize> {
    k.checked_next_multiple_of(LANES)?.checked_mul(PANEL * size_of::<f32>())
}

/// True if the product is computed row by row.
fn by_rows(args: &LinearArgs<'_>) -> bool {
    args.kernel.for_tokens(args.dtype, args.tokens) == ProductKernel::Rows
}

/// Rows that a worker takes at a time.
fn rows_dealt(args: &LinearArgs<'_>, workers: usize) -> usize {
    match args.dtype.row_bytes(args.k) {
        _ if !by_rows(args) => PANEL,
        Some(row_bytes) => rows_at_once(args.n_out, row_bytes, workers),
        None => 1,
    }
}

/// Computes a product together with the other workers.
///
/// # Safety
/// The contract of [`super::linear`]; `args` is checked, and for panels `own` has [`panel_bytes`] bytes for this worker
/// alone, aligned to a cache line.
pub(super) unsafe fn run(worker: &Worker<'_>, isa: Isa, args: &LinearArgs<'_>, own: *mut u8) {
    worker.for_chunks(args.n_out, rows_dealt(args, worker.count()), |rows| {
        // SAFETY: the rows are dealt to this worker alone; the caller vouches for the rest.
        unsafe { multiply(isa, args, rows, own) }
    });
}

/// Multiplies rows of weights with every token.
///
/// # Safety
/// Sizes are checked, no other worker computes these rows, and `own` meets the contract of [`run`].
pub(super) unsafe fn multiply(isa: Isa, args: &LinearArgs<'_>, rows: Range<usize>, own: *mut u8) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match args.dtype {
            DType::F32 => typed::<F32>(isa, args, rows, own),
            DType::F16 => typed::<F16>(isa, args, rows, own),
            DType::BF16 => typed::<BF16>(isa, args, rows, own),
            dtype => debug_assert!(false, "{dtype} is not plain"),
        }
    }
}

/// # Safety
/// That of [`multiply`], and the weights are `E`.
unsafe fn typed<E: Element>(isa: Isa, args: &LinearArgs<'_>, rows: Range<usize>, own: *mut u8) {
    let product = FloatProduct { args, row_bytes: args.k * E::BYTES };
    // Panels have this many rows. Few tokens take rows as assigned; for many, rows should stay in the cache.
    let most = match (by_rows(args), args.tokens <= FEW_TOKENS) {
        (false, _) => PANEL,
        (true, true) => rows.len().max(1),
        (true, false) => ROWS_AT_ONCE,
    };
    for rows in pieces(rows, most) {
        // SAFETY: the caller vouches for it; `own` has room for a panel.
        unsafe { multiply_rows::<E>(isa, &product, rows, own.cast()) }
    }
}

/// Splits rows into pieces of at most `most`.
fn pieces(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(most).map(move |first| first..rows.end.min(first + most))
}

/// # Safety
/// That of [`multiply`]; the rows, of type `E`, are this worker's, and `panel` has room for a panel unless the product
/// is computed row by row.
unsafe fn multiply_rows<E: Element>(
    isa: Isa,
    product: &FloatProduct<'_>,
    rows: Range<usize>,
    panel: *mut f32,
) {
    let by_rows = by_rows(product.args);
    // SAFETY: the caller vouches for it.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if by_rows => avx512::float::rows::<E>(product, rows),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::float::panel::<E>(product, rows, panel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if by_rows => avx2::float::rows::<E>(product, rows),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::float::panel::<E>(product, rows, panel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if by_rows => neon::float::rows::<E>(product, rows),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::float::panel::<E>(product, rows, panel),
            _ if by_rows => rows.for_each(|row| plain_row::<E>(product, row)),
            _ => rows.for_each(|row| plain_in_order::<E>(product, row)),
        }
    }
}

/// # Safety
/// The row is this worker's.
unsafe fn plain_row<E: Element>(product: &FloatProduct<'_>, row: usize) {
    let weights = product.row(row);
    for token in 0..product.args.tokens {
        let x = product.args.x.row(token);
        let mut lanes = [0f32; LANES];
        for column in 0..product.args.k.next_multiple_of(LANES) {
            let (w, x) = if column < product.args.k {
                // SAFETY: rows of weights and activations have `k` values.
                unsafe { (E::read(weights.add(column * E::BYTES), f16_field), *x.add(column)) }
            } else {
                (0.0, 0.0)
            };
            let lane = &mut lanes[column % LANES];
            *lane = w.mul_add(x, *lane);
        }
        // SAFETY: the value is this worker's.
        unsafe { store(product.args, token, row, sum_lanes(lanes)) };
    }
}

/// # Safety
/// The row is this worker's.
unsafe fn plain_in_order<E: Element>(product: &FloatProduct<'_>, row: usize) {
    let weights = product.row(row);
    for token in 0..product.args.tokens {
        let x = product.args.x.row(token);
        let mut sum = 0f32;
        for start in (0..product.args.k).step_by(BLOCK) {
            let mut part = 0f32;
            for column in start..product.args.k.min(start + BLOCK) {
                // SAFETY: rows of weights and activations have `k` values.
                part = unsafe {
                    E::read(weights.add(column * E::BYTES), f16_field).mul_add(*x.add(column), part)
                };
            }
            sum += part;
        }
        // SAFETY: the value is this worker's.
        unsafe { store(product.args, token, row, sum) };
    }
}

impl Element for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn read(at: *const u8, _: impl Fn([u8; 2]) -> f32) -> f32 {
        // SAFETY: the caller guarantees an element there; bytes have any alignment.
        f32::from_le_bytes(unsafe { *at.cast() })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller guarantees eight elements there.
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
        // SAFETY: the caller guarantees an element there; bytes have any alignment.
        half(unsafe { *at.cast() })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller guarantees eight elements there.
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
        // SAFETY: the caller guarantees an element there; bytes have any alignment.
        f32::from_bits(u32::from(u16::from_le_bytes(unsafe { *at.cast() })) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn read_avx2(at: *const u8) -> __m256 {
        // SAFETY: the caller guarantees eight elements there.
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

/// A mask of the first `count` of 16 lanes; all lanes if `count` is larger.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}
