//! Products in which each row of the result selects its matrix: the experts of a mixture.
//!
//! The rows are sorted by expert, so that an expert's weights are read once for all rows that selected it; then each
//! expert is a product of its own ([`LinearArgs`]), with the same kernels and the same bits.

use std::ops::Range;

use super::dispatch::{self, Quantized, rows_at_once};
use super::format::{self, PANEL};
use super::{Isa, LinearArgs, LinearError, ProductKernel, Rows, RowsMut, Scratch, Worker, float};
use crate::cpu::activations::{ALIGN, CHUNK, Layout, activation_bytes, quantize_chunk};
use crate::tensor::DType;

/// A product to compute: `y[i] = W[ids[i]] · x[i / share] (+ bias[ids[i]])`.
pub struct LinearIdArgs<'a> {
    /// Element type of the weights.
    pub dtype: DType,
    /// The weights, `n_expert` matrices of `n_out` rows of `k` elements, contiguous, at any address.
    pub weight: &'a [u8],
    /// Elements in a row of weights and of `x`.
    pub k: usize,
    /// Rows of each matrix, and values in a row of `y`.
    pub n_out: usize,
    /// Matrices.
    pub n_expert: usize,
    /// The matrix of each row of `y`.
    pub ids: &'a [i32],
    /// The number of adjacent rows of `y` that are computed from one row of `x`.
    pub share: usize,
    /// The kernel.
    pub kernel: ProductKernel,
    /// The activations, a row of `k` for every `share` rows of `y`.
    pub x: &'a [f32],
    /// The result, a row of `n_out` for each of `ids`.
    pub y: RowsMut<'a>,
    /// `n_expert` rows of `n_out`; a row of the result gets its expert's row added.
    pub bias: Option<&'a [f32]>,
}

/// The division of scratch memory.
struct ExpertScratch {
    /// Bytes for the activations sorted by expert, which all workers read.
    shared: usize,
    /// Bytes for each worker's lists.
    lists: usize,
    /// Bytes for each worker: its lists, then the kernels' memory.
    each: usize,
    /// The total, alignment included.
    total: usize,
}

/// Divides scratch memory for `rows` rows of the result; `None` if sizes overflow.
fn sizes(
    dtype: DType,
    k: usize,
    n_expert: usize,
    (rows, rows_of_x): (usize, usize),
    kernel: ProductKernel,
    workers: usize,
) -> Option<ExpertScratch> {
    let gathered = if rows_of_x == 1 { 1 } else { rows };
    let shared = match format::is_integer(dtype) {
        true => activation_bytes(k, gathered)?,
        false if rows_of_x == 1 => 0,
        false => gathered.checked_mul(k)?.checked_mul(size_of::<f32>())?,
    };
    let shared = shared.checked_next_multiple_of(ALIGN)?;
    let numbers = Groups::numbers(rows, n_expert)?;
    let lists = numbers.checked_mul(size_of::<u32>())?.checked_next_multiple_of(ALIGN)?;
    let each = lists.checked_add(dispatch::worker_bytes(dtype, k, kernel)?)?;
    let total = each.checked_mul(workers)?.checked_add(shared)?.checked_add(ALIGN)?;
    u32::try_from(rows).ok()?;
    Some(ExpertScratch { shared, lists, each, total })
}

/// The rows of the result, grouped by expert. Every worker has an own copy with the same numbers.
struct Groups<'a> {
    /// The rows sorted by expert, and by number for each expert.
    order: &'a [u32],
    /// The position of each row in `order`.
    place: &'a [u32],
    /// The end of each expert's rows in `order`, which is the start of the next expert's.
    ends: &'a [u32],
    /// The experts that some row has selected.
    chosen: &'a [u32],
}

impl<'a> Groups<'a> {
    /// The length of the lists in numbers.
    fn numbers(rows: usize, n_expert: usize) -> Option<usize> {
        rows.checked_mul(2)?.checked_add(n_expert.checked_mul(2)?)
    }

    /// Sorts the rows by counting, in `memory`.
    fn new(ids: &[i32], n_expert: usize, memory: &'a mut [u32]) -> Result<Groups<'a>, LinearError> {
        let (order, rest) = memory.split_at_mut(ids.len());
        let (place, rest) = rest.split_at_mut(ids.len());
        let (ends, rest) = rest.split_at_mut(n_expert);
        ends.fill(0);
        for &id in ids {
            let count = usize::try_from(id).ok().and_then(|id| ends.get_mut(id));
            *count.ok_or(LinearError::Expert { id, n_expert })? += 1;
        }
        // Turn counts into the starts of each expert's rows, which filling then turns into their ends.
        let (mut start, mut n_chosen) = (0, 0);
        for (expert, end) in ends.iter_mut().enumerate() {
            if *end > 0 {
                rest[n_chosen] = expert as u32;
                n_chosen += 1;
            }
            start += std::mem::replace(end, start);
        }
        for (row, (&id, place)) in ids.iter().zip(place.iter_mut()).enumerate() {
            let next = &mut ends[id as usize];
            *place = *next;
            order[*next as usize] = row as u32;
            *next += 1;
        }
        Ok(Groups { order, place, ends, chosen: &rest[..n_chosen] })
    }

    /// The selected expert number `group`, and its positions in the order.
    fn group(&self, group: usize) -> (usize, Range<usize>) {
        let expert = self.chosen[group] as usize;
        let start = if expert == 0 { 0 } else { self.ends[expert - 1] };
        (expert, start as usize..self.ends[expert] as usize)
    }

    /// The largest number of rows that selected one expert.
    fn largest(&self) -> usize {
        (0..self.chosen.len()).map(|group| self.group(group).1.len()).max().unwrap_or(0)
    }
}

impl LinearIdArgs<'_> {
    /// Bytes of scratch memory for a product of `rows` rows of the result, computed from `rows_of_x` rows; `None` if
    /// the sizes overflow.
    pub fn scratch_bytes(
        dtype: DType,
        k: usize,
        n_expert: usize,
        (rows, rows_of_x): (usize, usize),
        kernel: ProductKernel,
        workers: usize,
    ) -> Option<usize> {
        sizes(dtype, k, n_expert, (rows, rows_of_x), kernel, workers).map(|sizes| sizes.total)
    }

    /// Rows of `x`.
    fn rows_of_x(&self) -> usize {
        self.ids.len() / self.share.max(1)
    }

    /// Checks every size that the kernels rely on.
    fn check(&self, isa: Isa, scratch: usize, workers: usize) -> Result<ExpertScratch, LinearError> {
        let LinearIdArgs { dtype, k, n_out, n_expert, share, kernel, .. } = *self;
        let rows = self.ids.len();
        if !dtype.is_float() {
            return Err(LinearError::DType(dtype));
        }
        if !isa.is_available() {
            return Err(LinearError::Isa(isa));
        }
        let shape = || LinearError::Shape { dtype, k, n_out };
        if share == 0 || !rows.is_multiple_of(share) {
            return Err(shape());
        }
        let all = n_out.checked_mul(n_expert).ok_or_else(shape)?;
        let weight = dtype.row_bytes(k).and_then(|bytes| bytes.checked_mul(all)).ok_or_else(shape)?;
        let sizes = sizes(dtype, k, n_expert, (rows, self.rows_of_x()), kernel, workers).ok_or_else(shape)?;
        let x = self.rows_of_x().checked_mul(k).ok_or_else(shape)?;
        let y = self.y.needed(rows, n_out).ok_or_else(shape)?;
        for (what, unit, have, need) in [
            ("weight", "bytes", self.weight.len(), weight),
            ("x", "values", self.x.len(), x),
            ("y", "values", self.y.len(), y),
            ("bias", "values", self.bias.map_or(all, <[f32]>::len), all),
            ("scratch", "bytes", scratch, sizes.total),
        ] {
            if have < need {
                return Err(LinearError::Short { what, unit, have, need });
            }
        }
        Ok(sizes)
    }
}

/// Computes a product together with the other workers of a run. Returns when all of it is finished.
///
/// # Errors
/// Sizes that do not match, or an expert that does not exist: the same error on every worker, and nothing is computed.
///
/// # Safety
/// Every worker of the run calls this with the same arguments, and until all have returned nothing else writes
/// `weight`, `ids`, `x` and `bias` or accesses `y` and `scratch`. `y` overlaps nothing else. Scratch memory is
/// initialized.
pub unsafe fn linear_id(
    worker: &Worker<'_>,
    isa: Isa,
    args: &LinearIdArgs<'_>,
    scratch: &Scratch<'_>,
) -> Result<(), LinearError> {
    let sizes = args.check(isa, scratch.len(), worker.count())?;
    let shared = scratch.aligned();
    let own = shared.wrapping_add(sizes.shared + worker.index() * sizes.each);
    // SAFETY: this worker's lists are inside its part of the scratch memory, which is aligned and initialized.
    let memory = unsafe { std::slice::from_raw_parts_mut(own.cast::<u32>(), sizes.lists / size_of::<u32>()) };
    let groups = Groups::new(args.ids, args.n_expert, memory)?;
    if args.ids.is_empty() || args.n_out == 0 {
        return Ok(());
    }
    // SAFETY: the sizes are checked; the caller vouches for the rest.
    unsafe {
        gather(worker, isa, args, &groups, shared);
        multiply(worker, isa, args, &groups, (shared, own.wrapping_add(sizes.lists)));
    }
    Ok(())
}

/// Sorts the activations by expert, quantized for the formats that need it; a single row serves every expert unsorted.
///
/// # Safety
/// That of [`linear_id`], with sizes checked; `shared` receives the activations.
unsafe fn gather(
    worker: &Worker<'_>,
    isa: Isa,
    args: &LinearIdArgs<'_>,
    groups: &Groups<'_>,
    shared: *mut u8,
) {
    let (k, rows) = (args.k, args.rows_of_x());
    // The positions of the rows that are computed from a row of `x`; the first position if that is the only row.
    let places = |row: usize| match rows {
        1 => &[0],
        _ => &groups.place[row * args.share..(row + 1) * args.share],
    };
    if !format::is_integer(args.dtype) {
        if rows > 1 {
            worker.for_chunks(rows, 1, |dealt| {
                for row in dealt {
                    for &place in places(row) {
                        let to = shared.cast::<f32>().wrapping_add(place as usize * k);
                        // SAFETY: there is room for every position, and each is written by one worker.
                        unsafe { std::ptr::copy_nonoverlapping(args.x[row * k..][..k].as_ptr(), to, k) };
                    }
                }
            });
        }
        return;
    }
    let layout = Layout::new(k);
    worker.for_chunks(rows * layout.chunks(), 4, |dealt| {
        for i in dealt {
            let (row, chunk) = (i / layout.chunks(), i % layout.chunks());
            let start = chunk * CHUNK;
            let x = &args.x[row * k + start..][..CHUNK.min(k - start)];
            // SAFETY: the instruction set is checked; there is room for every position, and each chunk of each is
            // written by one worker.
            unsafe {
                let quantized = quantize_chunk(isa, x);
                for &place in places(row) {
                    let to = shared.wrapping_add(place as usize * layout.row_stride());
                    quantized.store(to, layout, chunk);
                }
            }
        }
    });
}

/// Multiplies every selected expert with its rows.
///
/// # Safety
/// That of [`linear_id`], with sizes checked; the activations are at `shared`, and `own` is the kernels' memory.
unsafe fn multiply(
    worker: &Worker<'_>,
    isa: Isa,
    args: &LinearIdArgs<'_>,
    groups: &Groups<'_>,
    (shared, own): (*mut u8, *mut u8),
) {
    let LinearIdArgs { dtype, k, n_out, kernel, .. } = *args;
    let (integer, single) = (format::is_integer(dtype), args.rows_of_x() == 1);
    let row_bytes = k / dtype.block_elements() * dtype.block_bytes();
    // All experts are assigned in one deal, as most are too small for a barrier each.
    let rows = (n_out * groups.chosen.len(), row_bytes);
    let deal = match (kernel.for_tokens(dtype, groups.largest()), integer) {
        (_, true) => dispatch::rows_dealt(kernel, groups.largest(), rows, k, worker.count()),
        (ProductKernel::Rows, false) => rows_at_once(rows.0, row_bytes, worker.count()),
        (_, false) => PANEL,
    }
    .min(n_out);
    let pieces = n_out.div_ceil(deal);
    worker.for_chunks(groups.chosen.len() * pieces, 1, |dealt| {
        for i in dealt {
            let (expert, places) = groups.group(i / pieces);
            let first = i % pieces * deal;
            let rows = first..n_out.min(first + deal);
            let stride = if single { 0 } else { k };
            let x = match (single, integer) {
                (true, _) => Rows::new(args.x, 0),
                // Unused: the activations are quantized.
                (false, true) => Rows::new(&[], 0),
                // SAFETY: the gathered activations have a row of `k` for each position.
                (false, false) => unsafe {
                    let start = shared.cast::<f32>().wrapping_add(places.start * k);
                    Rows::from_raw(start, places.len() * k, stride)
                },
            };
            let product = LinearArgs {
                dtype,
                weight: &args.weight[expert * n_out * row_bytes..][..n_out * row_bytes],
                k,
                n_out,
                tokens: places.len(),
                kernel,
                x,
                y: args.y.ordered(&groups.order[places.clone()]),
                bias: args.bias.map(|bias| &bias[expert * n_out..][..n_out]),
                residual: None,
            };
            // SAFETY: these rows of this expert are assigned to this worker alone, and no two experts write the same
            // row of the result; sizes are checked.
            unsafe {
                if integer {
                    let stride = if single { 0 } else { Layout::new(k).row_stride() };
                    let start = shared.wrapping_add(places.start * stride);
                    dispatch::multiply(isa, &Quantized::new(&product, start, stride), rows, own);
                } else {
                    float::multiply(isa, &product, rows, own);
                }
            }
        }
    });
}
