//! Which kernel computes a product, in which pieces, and with how much scratch memory.

use super::float;
use super::format::{self, Format, PANEL, PanelChunk};
use super::{FEW_TOKENS, Isa, Linear, Scratch, Worker, plain};
use crate::cpu::activations::{ALIGN, CHUNK, Layout, activation_bytes, quantize_chunk};
use crate::tensor::{DType, blocks};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// The least and the most bytes of weights that a worker takes at a time when there are few tokens.
const DEAL_BYTES: std::ops::Range<usize> = 32 << 10..512 << 10;
/// Parts that each worker gets of a large matrix, so that a worker that was held up is waited for by at
/// most one part.
const DEAL_PARTS: usize = 8;
/// Bytes of unpacked panels that a worker takes at a time: they should stay in its cache.
const DEAL_PANEL_BYTES: usize = 256 << 10;

/// Rows that a worker takes at a time when there are few tokens. Memory is read fastest in long runs: what
/// was fetched ahead at the end of a run is another worker's.
pub(super) fn rows_at_once(n_out: usize, row_bytes: usize, workers: usize) -> usize {
    let row_bytes = row_bytes.max(1);
    let bytes = (n_out * row_bytes / (workers * DEAL_PARTS)).clamp(DEAL_BYTES.start, DEAL_BYTES.end);
    (bytes / row_bytes).max(1)
}

/// How scratch memory is divided.
pub(super) struct Sizes {
    /// Bytes for the quantized activations, which all workers read.
    shared: usize,
    /// Bytes for each worker.
    each: usize,
    /// All of it, alignment included.
    pub(super) total: usize,
}

/// Divides scratch memory; `None` if sizes overflow.
pub(super) fn scratch(dtype: DType, k: usize, tokens: usize, workers: usize) -> Option<Sizes> {
    let (shared, each) = if format::is_integer(dtype) {
        let panels = if tokens > FEW_TOKENS { panels_at_once(panel_bytes(k)?) * panel_bytes(k)? } else { 0 };
        (activation_bytes(k, tokens)?.checked_next_multiple_of(ALIGN)?, panels)
    } else {
        (0, float::scratch(dtype, k, tokens)?.checked_next_multiple_of(ALIGN)?)
    };
    let total = each.checked_mul(workers)?.checked_add(shared)?;
    Some(Sizes { shared, each, total: if total > 0 { total.checked_add(ALIGN)? } else { 0 } })
}

/// Bytes of an unpacked panel.
fn panel_bytes(k: usize) -> Option<usize> {
    k.div_ceil(CHUNK).checked_mul(size_of::<PanelChunk>())
}

/// Panels that a worker unpacks before it multiplies them.
fn panels_at_once(bytes: usize) -> usize {
    (DEAL_PANEL_BYTES / bytes.max(1)).clamp(1, 4)
}

/// Computes a product together with the other workers.
///
/// # Safety
/// The contract of [`super::linear`]; `args` is checked and `sizes` are those of the scratch memory.
pub(super) unsafe fn run(
    worker: &Worker<'_>,
    isa: Isa,
    args: &Linear<'_>,
    scratch: &Scratch<'_>,
    sizes: Sizes,
) {
    /// Calls `integer` for the formats named, and `float::run` for all others.
    macro_rules! dispatch {
        ($($name:ident $block:ident),*) => {
            match args.dtype {
                // SAFETY: the caller vouches for it.
                $(DType::$name => unsafe { integer::<blocks::$block>(worker, isa, args, scratch, sizes) },)*
                _ => {
                    let own = scratch.aligned().wrapping_add(sizes.shared + worker.index() * sizes.each);
                    // SAFETY: as above; `own` is this worker's part.
                    unsafe { float::run(worker, isa, args, own) }
                }
            }
        };
    }
    format::for_every_format!(dispatch)
}

/// A product with quantized activations, as kernels get it.
pub(super) struct Quantized<'a> {
    pub(super) args: &'a Linear<'a>,
    /// First row of the activations.
    pub(super) activations: *const u8,
    pub(super) layout: Layout,
    /// Bytes in a row of weights.
    pub(super) row_bytes: usize,
}

impl Quantized<'_> {
    /// Start of the activations of a token.
    pub(super) fn token(&self, token: usize) -> *const u8 {
        self.activations.wrapping_add(token * self.layout.row_stride())
    }

    /// Start of a row of weights.
    pub(super) fn weight_row(&self, row: usize) -> *const u8 {
        self.args.weight.as_ptr().wrapping_add(row * self.row_bytes)
    }
}

/// # Safety
/// That of [`run`], and `F` is the format of the weights.
unsafe fn integer<F: Format>(
    worker: &Worker<'_>,
    isa: Isa,
    args: &Linear<'_>,
    scratch: &Scratch<'_>,
    sizes: Sizes,
) {
    let layout = Layout::new(args.k);
    let activations = scratch.aligned();
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
                quantize_chunk(isa, x, row, layout, chunk);
            }
        }
    });

    let row_bytes = args.k / F::DTYPE.block_elements() * F::DTYPE.block_bytes();
    let job = Quantized { args, activations, layout, row_bytes };
    if args.tokens <= FEW_TOKENS {
        worker.for_chunks(args.n_out, rows_at_once(args.n_out, row_bytes, worker.count()), |rows| {
            for row in rows {
                // SAFETY: the row is dealt to this worker alone; sizes are checked.
                unsafe {
                    match isa {
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx512 => avx512::integer::row::<F>(&job, row),
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx2 => avx2::integer::row::<F>(&job, row),
                        #[cfg(target_arch = "aarch64")]
                        Isa::Neon => neon::integer::row::<F>(&job, row),
                        _ => plain::row::<F>(&job, row),
                    }
                }
            }
        });
        return;
    }
    let panel_chunks = layout.chunks();
    let own = scratch.aligned().wrapping_add(sizes.shared + worker.index() * sizes.each).cast::<PanelChunk>();
    let at_once = panels_at_once(panel_chunks * size_of::<PanelChunk>());
    worker.for_chunks(args.n_out.div_ceil(PANEL), at_once, |panels| {
        // SAFETY: the panels are dealt to this worker alone and fit its part of the scratch memory.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::integer::panels::<F>(&job, panels, own),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::integer::panels::<F>(&job, panels, own),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => neon::integer::panels::<F>(&job, panels, own),
                _ => plain::panels::<F>(&job, panels, own),
            }
        }
    });
}
