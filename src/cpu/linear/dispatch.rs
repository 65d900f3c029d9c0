//! Splits a product into pieces for the workers, divides scratch memory, and selects the instruction set.

use std::ops::Range;

use super::float;
use super::format::{self, Format, PANEL, PanelChunk};
use super::{FEW_TOKENS, Isa, LinearArgs, ProductKernel, Scratch, Worker, plain};
use crate::cpu::activations::{ALIGN, CHUNK, Layout, activation_bytes, quantize_chunk};
use crate::tensor::{DType, blocks};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// The least and the most bytes of weights that a worker takes at a time when rows are read once.
const DEAL_BYTES: std::ops::Range<usize> = 32 << 10..512 << 10;
/// Parts per worker of a large matrix, so that the others wait for a delayed worker by at most one part.
const DEAL_PARTS: usize = 8;
/// Bytes of unpacked panels that a worker takes at a time, small enough to stay in its cache.
const DEAL_PANEL_BYTES: usize = 256 << 10;

/// Rows of weights that a worker takes at a time when weights are read once. Long runs are read fastest, as data
/// prefetched past the end of a run belongs to another worker.
pub(super) fn rows_at_once(n_out: usize, row_bytes: usize, workers: usize) -> usize {
    let row_bytes = row_bytes.max(1);
    let bytes = (n_out * row_bytes / (workers * DEAL_PARTS)).clamp(DEAL_BYTES.start, DEAL_BYTES.end);
    (bytes / row_bytes).max(1)
}

/// The most tokens that AVX-512 multiplies by four rows at a time in formats with minimums, whose sums are long
/// dependency chains. Measured on Zen 4 (8192 rows of 2048, milliseconds by four rows and by panels): Q4_K 1.9 and 2.3
/// for five tokens, 2.7 and 2.6 for eight; Q2_K 2.6 and 2.1, 3.4 and 2.4.
#[cfg(target_arch = "x86_64")]
const MINS_IN_QUADS: usize = 5;

/// The division of scratch memory.
pub(super) struct ScratchSizes {
    /// Bytes for the quantized activations, which all workers read.
    shared: usize,
    /// Bytes for each worker.
    each: usize,
    /// The total, alignment included.
    pub(super) total: usize,
}

/// Divides scratch memory; `None` if sizes overflow.
pub(super) fn scratch(
    dtype: DType,
    k: usize,
    tokens: usize,
    kernel: ProductKernel,
    workers: usize,
) -> Option<ScratchSizes> {
    let shared = match format::is_integer(dtype) {
        true => activation_bytes(k, tokens)?.checked_next_multiple_of(ALIGN)?,
        false => 0,
    };
    let each = worker_bytes(dtype, k, kernel)?;
    let total = each.checked_mul(workers)?.checked_add(shared)?;
    Some(ScratchSizes { shared, each, total: if total > 0 { total.checked_add(ALIGN)? } else { 0 } })
}

/// Bytes that [`multiply`] and [`float::multiply`] need on each worker.
pub(super) fn worker_bytes(dtype: DType, k: usize, kernel: ProductKernel) -> Option<usize> {
    match (kernel, format::is_integer(dtype)) {
        (ProductKernel::Rows, _) => Some(0),
        (_, true) => panels_at_once(panel_bytes(k)?).checked_mul(panel_bytes(k)?),
        (_, false) => float::panel_bytes(k)?.checked_next_multiple_of(ALIGN),
    }
}

/// Bytes of an unpacked panel.
fn panel_bytes(k: usize) -> Option<usize> {
    k.div_ceil(CHUNK).checked_mul(size_of::<PanelChunk>())
}

/// Panels that a worker unpacks before it multiplies them.
fn panels_at_once(bytes: usize) -> usize {
    (DEAL_PANEL_BYTES / bytes.max(1)).clamp(1, 4)
}

/// Rows of weights that a worker takes at a time as panels, small enough to stay in its cache.
fn panel_rows_at_once(k: usize) -> usize {
    PANEL * panels_at_once(k.div_ceil(CHUNK) * size_of::<PanelChunk>())
}

/// Rows that a worker takes at a time from `rows` rows of weights of an integer format, for `tokens` tokens.
pub(super) fn rows_dealt(
    kernel: ProductKernel,
    tokens: usize,
    (rows, row_bytes): (usize, usize),
    k: usize,
    workers: usize,
) -> usize {
    match kernel {
        ProductKernel::Rows => rows_at_once(rows, row_bytes, workers),
        // These are multiplied while they are unpacked.
        _ if tokens <= FEW_TOKENS => rows_at_once(rows, row_bytes, workers).next_multiple_of(PANEL),
        _ => panel_rows_at_once(k),
    }
}

/// Computes a product together with the other workers.
///
/// # Safety
/// The contract of [`super::linear`]; `args` is checked and `sizes` are those of the scratch memory.
pub(super) unsafe fn run(
    worker: &Worker<'_>,
    isa: Isa,
    args: &LinearArgs<'_>,
    scratch: &Scratch<'_>,
    sizes: ScratchSizes,
) {
    let activations = scratch.aligned();
    let own = activations.wrapping_add(sizes.shared + worker.index() * sizes.each);
    if !format::is_integer(args.dtype) {
        // SAFETY: the caller vouches for it; `own` is this worker's part.
        return unsafe { float::run(worker, isa, args, own) };
    }
    let layout = Layout::new(args.k);
    worker.for_chunks(args.tokens * layout.chunks(), 4, |range| {
        for i in range {
            let (token, chunk) = (i / layout.chunks(), i % layout.chunks());
            let start = chunk * CHUNK;
            let row = activations.wrapping_add(token * layout.row_stride());
            // SAFETY: `x` has `tokens` rows of `k` values; each chunk of the activations is dealt
            // to one worker, and there is room for `tokens` rows of them.
            unsafe {
                let x = args.x.row(token).add(start);
                let x = std::slice::from_raw_parts(x, CHUNK.min(args.k - start));
                quantize_chunk(isa, x).store(row, layout, chunk);
            }
        }
    });
    let job = Quantized::new(args, activations, layout.row_stride());
    let rows = (args.n_out, job.row_bytes);
    let deal = rows_dealt(args.kernel, args.tokens, rows, args.k, worker.count());
    worker.for_chunks(args.n_out, deal, |rows| {
        // SAFETY: the rows are dealt to this worker alone; sizes are checked.
        unsafe { multiply(isa, &job, rows, own) }
    });
}

/// A product with quantized activations, as passed to kernels.
pub(super) struct Quantized<'a> {
    pub(super) args: &'a LinearArgs<'a>,
    /// First row of the activations.
    activations: *const u8,
    pub(super) layout: Layout,
    /// Bytes from one row of activations to the next.
    stride: usize,
    /// Bytes in a row of weights.
    pub(super) row_bytes: usize,
}

impl<'a> Quantized<'a> {
    /// A product of integer-format weights with rows of activations `stride` bytes apart; 0 if all tokens share one
    /// row.
    pub(super) fn new(args: &'a LinearArgs<'a>, activations: *const u8, stride: usize) -> Quantized<'a> {
        let row_bytes = args.k / args.dtype.block_elements() * args.dtype.block_bytes();
        Quantized { args, activations, layout: Layout::new(args.k), stride, row_bytes }
    }

    /// Start of the activations of a token.
    pub(super) fn token(&self, token: usize) -> *const u8 {
        self.activations.wrapping_add(token * self.stride)
    }

    /// Start of a row of weights.
    pub(super) fn weight_row(&self, row: usize) -> *const u8 {
        self.args.weight.as_ptr().wrapping_add(row * self.row_bytes)
    }
}

/// Multiplies rows of weights with every token. For panels the first row is a multiple of [`PANEL`].
///
/// # Safety
/// The weights have an integer format and sizes are checked; no other worker computes these rows, and `own` has
/// [`worker_bytes`] bytes for this worker alone, aligned to a cache line.
pub(super) unsafe fn multiply(isa: Isa, job: &Quantized<'_>, rows: Range<usize>, own: *mut u8) {
    macro_rules! of_format {
        ($($name:ident $ggml_id:literal $elements:literal $bytes:literal $block:ident),* $(,)?) => {
            match job.args.dtype {
                // SAFETY: the caller vouches for it.
                $(DType::$name => unsafe { multiply_as::<blocks::$block>(isa, job, rows, own) },)*
                dtype => debug_assert!(false, "{dtype} has no integer products"),
            }
        };
    }
    format::for_every_format!(of_format)
}

/// # Safety
/// That of [`multiply`], and `F` is the format of the weights.
unsafe fn multiply_as<F: Format>(isa: Isa, job: &Quantized<'_>, rows: Range<usize>, own: *mut u8) {
    debug_assert_eq!(job.args.dtype, F::DTYPE);
    if job.args.kernel.for_tokens(job.args.dtype, job.args.tokens) == ProductKernel::Rows {
        for row in rows {
            // SAFETY: the caller vouches for it.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512::integer::row::<F>(job, row),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2::integer::row::<F>(job, row),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => neon::integer::row::<F>(job, row),
                    _ => plain::row::<F>(job, row),
                }
            }
        }
        return;
    }
    if job.args.tokens <= FEW_TOKENS {
        // Panels do not pay off for few tokens: the same sums are computed for four rows at a time.
        // SAFETY: the caller vouches for it.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 if !F::MIN || job.args.tokens <= MINS_IN_QUADS => {
                    return avx512::quads::rows::<F>(job, rows);
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => return avx2::quads::rows::<F>(job, rows),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => return neon::quads::rows::<F>(job, rows),
                _ => {}
            }
        }
    }
    let own = own.cast::<PanelChunk>();
    let at_once = panel_rows_at_once(job.args.k) / PANEL;
    let end = rows.end.div_ceil(PANEL);
    for first in (rows.start / PANEL..end).step_by(at_once) {
        let panels = first..end.min(first + at_once);
        // SAFETY: the caller vouches for it; this many panels fit at `own`.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::integer::panels::<F>(job, panels, own),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::integer::panels::<F>(job, panels, own),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => neon::integer::panels::<F>(job, panels, own),
                _ => plain::panels::<F>(job, panels, own),
            }
        }
    }
}
