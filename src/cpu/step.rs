//! One step of a plan on the CPU: inputs, outputs, scratch, and the assignment ("deal") of the first output's rows to
//! workers. [`CpuStep::for_parts`] assigns parts of all outputs.
//!
//! Every worker calls the operator with the same step. The methods here assign each piece of the output to exactly one
//! worker, so operators need no `unsafe`.
//!
//! Workers meet at the end of every deal. So all of them must make the same calls in the same order, and an error of
//! one worker is an error of the deal for all.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;

use super::linear::{LinearError, ProductKernel};
use super::view::note;
use super::{Isa, RawTensor, View, Worker};
use crate::tensor::Desc;
use crate::tensor::blocks::BlockError;

/// The longest piece of a row for elementwise operators: 16 KiB of output, so that one long row of a decode step still
/// keeps several workers busy.
const SPAN: usize = 4096;

/// The granularity of scratch shares in bytes.
const SCRATCH_LINE: usize = 64;

/// The reason why a step failed. Shapes were checked before, so these are faults of the data or of an operator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// An index out of range.
    #[error("{what} is {index}, outside of 0..{limit}")]
    Index {
        /// The indexed items.
        what: &'static str,
        /// The index.
        index: i64,
        /// The number of entries.
        limit: usize,
    },
    /// Blocks that cannot be read as numbers.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A product that the kernels refuse.
    #[error(transparent)]
    Product(#[from] LinearError),
    /// The operator requests something that its step does not have: a fault of the operator, not of the data.
    #[error("the operator misuses its step: {what}")]
    Misuse {
        /// The misuse.
        what: &'static str,
    },
    /// Another worker's share of the step failed. The executor reports that worker's error.
    #[error("another worker's share of the step failed")]
    Elsewhere,
}

impl StepError {
    /// Converts `index` if it is below `limit`; otherwise an error that names `what` it counts.
    pub fn check(what: &'static str, index: i32, limit: usize) -> Result<usize, StepError> {
        match usize::try_from(index) {
            Ok(index) if index < limit => Ok(index),
            _ => Err(StepError::Index { what, index: index.into(), limit }),
        }
    }
}

/// A piece of an output row.
#[derive(Clone, Debug)]
pub struct Span {
    /// The row's indices of dimensions 1, 2 and 3.
    pub row: (usize, usize, usize),
    /// The elements of the row.
    pub elements: Range<usize>,
}

/// One step of a plan, as seen by one worker.
pub struct CpuStep<'a> {
    worker: &'a Worker<'a>,
    isa: Isa,
    inputs: &'a [RawTensor],
    pub(super) output: RawTensor,
    pub(super) further: &'a [RawTensor],
    kernel: Option<ProductKernel>,
    scratch: (*mut u8, usize),
    scratch_taken: Cell<bool>,
    /// The number of the failed deal, shared by all workers.
    failed_at: &'a AtomicUsize,
    /// The number of deals that this worker has begun.
    deals: Cell<usize>,
    /// True while this worker is inside a deal. A nested deal would assign its pieces twice.
    dealing: Cell<bool>,
    /// True if rows were scattered since the workers last met.
    scattered: Cell<bool>,
    /// The error of the first failed deal, in case the operator drops it.
    failure: Cell<Option<StepError>>,
    /// The first misuse by this worker.
    pub(super) misuse: Cell<Option<&'static str>>,
}

/// Adjacent rows of an output, assigned to one worker.
pub struct Tile<'t> {
    output: RawTensor,
    i1: Range<usize>,
    i2: Range<usize>,
    misuse: &'t Cell<Option<&'static str>>,
    lifetime: PhantomData<&'t mut [u8]>,
}

impl Tile<'_> {
    /// A row of the tile.
    ///
    /// # Errors
    /// [`StepError::Misuse`] if the row is not in this tile, or `T` does not have the element's size.
    pub fn row<T: Pod>(&mut self, i1: usize, i2: usize) -> Result<&mut [T], StepError> {
        let desc = &self.output.desc;
        if !self.i1.contains(&i1) || !self.i2.contains(&i2) {
            return Err(note(self.misuse, "it writes a row that is not of its tile"));
        }
        if !holds::<T>(desc) {
            return Err(note(self.misuse, ELEMENT));
        }
        // SAFETY: the row is inside the output and belongs to this tile alone; plain elements are contiguous in a row,
        // and outputs are aligned to their elements.
        Ok(unsafe {
            let row = self.output.data.add(desc.row_offset(i1, i2, 0)).cast::<T>();
            slice::from_raw_parts_mut(row, desc.shape.dim(0))
        })
    }

    /// The rows' indices of dimension 1.
    pub fn i1(&self) -> Range<usize> {
        self.i1.clone()
    }

    /// The rows' indices of dimension 2.
    pub fn i2(&self) -> Range<usize> {
        self.i2.clone()
    }

    /// A row of the tile, filled with the same row of `input` as F32. Output and input may be the same memory.
    ///
    /// # Errors
    /// Those of [`Tile::row`] and [`View::load`].
    pub fn row_of(&mut self, input: &View<'_>, i1: usize, i2: usize) -> Result<&mut [f32], StepError> {
        let in_place = input.raw().is_same(&self.output);
        let row = self.row(i1, i2)?;
        if !in_place {
            input.load(0, (i1, i2, 0), row)?;
        }
        Ok(row)
    }
}

/// True if rows of such an output can be slices of `T`, one per element.
pub(super) fn holds<T: Pod>(desc: &Desc) -> bool {
    desc.dtype.is_plain() && holds_blocks::<T>(desc)
}

/// True if rows of such an output can be slices of `T`, one per block; a plain element is a block of one. Blocks may be
/// unaligned, so their `T` needs no alignment.
fn holds_blocks<T: Pod>(desc: &Desc) -> bool {
    let fits = desc.dtype.block_bytes() == size_of::<T>() && (desc.dtype.is_plain() || align_of::<T>() == 1);
    desc.rows_are_contiguous() && fits
}

pub(super) const ELEMENT: &str = "it writes elements of another size than the output has, or rows with gaps";
const NESTED: &str = "it deals inside of a deal";

impl<'a> CpuStep<'a> {
    /// A step over this memory: the first output and the further ones, with the kernel that the plan names for its
    /// product. `failed_at` is `usize::MAX` at the start of a run; a step that fails on any worker is the last of its
    /// run.
    ///
    /// # Safety
    /// For 'a, every input's extent must be readable and the outputs' and scratch's writable, nothing outside this step
    /// may write the inputs or access the outputs and scratch, and all workers must have the same step and the same
    /// `failed_at`. Plain elements are aligned, and scratch memory is aligned to a cache line. An output may share
    /// memory with an input only where the operator's [`Memory`](crate::graph::Memory) says so; then both have the same
    /// shape and strides. It does not overlap another output.
    pub(crate) unsafe fn new(
        worker: &'a Worker<'a>,
        isa: Isa,
        inputs: &'a [RawTensor],
        (output, further): (RawTensor, &'a [RawTensor]),
        kernel: Option<ProductKernel>,
        scratch: (*mut u8, usize),
        failed_at: &'a AtomicUsize,
    ) -> CpuStep<'a> {
        CpuStep {
            worker,
            isa,
            inputs,
            output,
            further,
            kernel,
            scratch,
            scratch_taken: Cell::new(false),
            failed_at,
            deals: Cell::new(0),
            dealing: Cell::new(false),
            scattered: Cell::new(false),
            failure: Cell::new(None),
            misuse: Cell::new(None),
        }
    }

    /// The outcome of the step on this worker, given the operator's result: also an error if the operator dropped one.
    pub fn outcome(&self, result: Result<(), StepError>) -> Result<(), StepError> {
        match (self.misuse.get(), self.failure.take()) {
            (Some(what), _) => Err(StepError::Misuse { what }),
            (None, Some(failure)) => result.and(Err(failure)),
            (None, None) => result,
        }
    }

    /// This worker. Private, as an operator that waited or assigned work itself would get out of step with the other
    /// workers.
    pub(super) fn worker(&self) -> &'a Worker<'a> {
        self.worker
    }

    /// The instruction set to use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// An input. An index past the inputs, which `infer` has ruled out, fails the step with [`StepError::Misuse`]; the
    /// view then has the output's description and no elements.
    pub fn input(&self, i: usize) -> View<'_> {
        let (raw, shared) = match self.inputs.get(i) {
            Some(raw) => {
                let written = |output: &RawTensor| raw.overlaps(output);
                (*raw, written(&self.output) || self.further.iter().any(written))
            }
            None => {
                self.misused("it reads an input that the step does not have");
                (self.output, true)
            }
        };
        // SAFETY: the step's constructor guarantees its inputs, and that they are not written meanwhile unless they are
        // in the memory of an output.
        unsafe { View::new(raw, shared, &self.misuse) }
    }

    /// The number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The description of the first output.
    pub fn output(&self) -> &Desc {
        &self.output.desc
    }

    /// The description of output number `i`, counted from 0. An index past the outputs, which `further_outputs` has
    /// ruled out, fails the step with [`StepError::Misuse`] and returns the first output's description.
    pub fn output_at(&self, i: usize) -> &Desc {
        let Some(output) = self.all_outputs().nth(i) else {
            self.misused("it names an output that the step does not have");
            return &self.output.desc;
        };
        &output.desc
    }

    /// All outputs, in order.
    pub(super) fn all_outputs(&self) -> impl Iterator<Item = &RawTensor> {
        std::iter::once(&self.output).chain(self.further)
    }

    /// The first output's address, for kernels that do their own arithmetic.
    pub(super) fn output_raw(&self) -> RawTensor {
        self.output
    }

    /// Address and size of the scratch memory that the operator requested.
    pub(super) fn scratch_raw(&self) -> (*mut u8, usize) {
        self.scratch
    }

    /// This worker's equal share of the scratch memory; empty on a second call. [`CpuStep::product`] needs the scratch
    /// memory for itself.
    pub fn take_scratch(&self) -> &'a mut [f32] {
        let (data, bytes) = self.scratch;
        let share = CpuStep::scratch_share(bytes / self.worker.count());
        if self.scratch_taken.replace(true) || share == 0 {
            return &mut [];
        }
        // SAFETY: the scratch is writable for 'a and aligned, shares of different workers do not overlap, and the flag
        // keeps this worker from getting its share twice.
        unsafe {
            let start = data.add(self.worker.index() * share).cast::<f32>();
            slice::from_raw_parts_mut(start, share / size_of::<f32>())
        }
    }

    /// The kernel that the plan names for the step's product.
    pub(super) fn product_kernel(&self) -> Result<ProductKernel, StepError> {
        self.kernel
            .ok_or_else(|| self.misused("it computes a product, and `cpu_kernel` names no kernel for it"))
    }

    /// True if this worker has taken its share of the scratch memory.
    pub(super) fn scratch_is_taken(&self) -> bool {
        self.scratch_taken.get()
    }

    /// The bytes of a share of scratch memory, rounded up so that each share starts on its own cache line; see
    /// [`CpuStep::scratch_for`].
    fn scratch_share(bytes: usize) -> usize {
        bytes / SCRATCH_LINE * SCRATCH_LINE
    }

    /// Bytes of scratch memory that give each of `threads` workers a share of `elements` F32.
    pub fn scratch_for(elements: usize, threads: usize) -> usize {
        (elements * size_of::<f32>()).next_multiple_of(SCRATCH_LINE) * threads
    }

    /// Records a misuse, so that the step fails even if the operator drops the error.
    pub(super) fn misused(&self, what: &'static str) -> StepError {
        note(&self.misuse, what)
    }

    /// Begins a joint operation of all workers.
    pub(super) fn begin(&self) -> Result<(), StepError> {
        if self.dealing.get() {
            return Err(self.misused(NESTED));
        }
        if self.scattered.replace(false) {
            // Rows that others are still writing could be assigned to this worker.
            self.worker.barrier();
        }
        Ok(())
    }

    /// Assigns `0..total`, one at a time. If any worker fails, all get an error: their own, or
    /// [`StepError::Elsewhere`].
    pub(super) fn deal(
        &self,
        total: usize,
        mut f: impl FnMut(usize) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.begin()?;
        let number = self.deals.get() + 1;
        self.deals.set(number);
        self.dealing.set(true);
        let mut result = Ok(());
        self.worker.for_chunks(total, 1, |chunk| {
            for i in chunk {
                if let Err(error) = f(i)
                    && result.is_ok()
                {
                    // Others read it after the barrier at the end of the deal.
                    self.failed_at.fetch_min(number, Ordering::Relaxed);
                    result = Err(error);
                }
            }
        });
        self.dealing.set(false);
        // A worker that is ahead may already have failed in a later deal, which this worker has yet to reach.
        if result.is_ok() && self.failed_at.load(Ordering::Relaxed) <= number {
            result = Err(StepError::Elsewhere);
        }
        if let Err(error) = &result {
            let first = self.failure.take().unwrap_or_else(|| error.clone());
            self.failure.set(Some(first));
        }
        result
    }

    /// Assigns tiles of at most `n1` by `n2` rows of an output without a dimension 3.
    ///
    /// # Errors
    /// An error of `f` on any worker; [`StepError::Misuse`] inside another deal, or if the output has a dimension 3 or
    /// rows with gaps.
    pub fn for_tiles(
        &self,
        (n1, n2): (usize, usize),
        mut f: impl FnMut(Tile<'_>) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        if !desc.rows_are_contiguous() || desc.shape.dim(3) != 1 {
            return Err(self.misused("it deals tiles of an output that has a dimension 3 or rows with gaps"));
        }
        let (n1, n2) = (n1.max(1), n2.max(1));
        let across = desc.shape.dim(1).div_ceil(n1);
        self.deal(across * desc.shape.dim(2).div_ceil(n2), |tile| {
            let (first1, first2) = (tile % across * n1, tile / across * n2);
            let i1 = first1..desc.shape.dim(1).min(first1.saturating_add(n1));
            let i2 = first2..desc.shape.dim(2).min(first2.saturating_add(n2));
            f(Tile { output: self.output, i1, i2, misuse: &self.misuse, lifetime: PhantomData })
        })
    }

    /// Assigns the rows of the output: `f(row, elements)`, each row to one worker.
    ///
    /// # Errors
    /// An error of `f` on any worker; [`StepError::Misuse`] inside another deal, or if `T` does not have the size of
    /// the output's elements.
    pub fn for_rows<T: Pod>(
        &self,
        mut f: impl FnMut((usize, usize, usize), &mut [T]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.for_pieces(self.output.desc.shape.dim(0), |span, out| f(span.row, out))
    }

    /// Assigns the rows of the output, filled with the rows of an input as F32. Output and input may be the same
    /// memory.
    ///
    /// # Errors
    /// Those of [`CpuStep::for_rows`] and [`View::load`].
    pub fn for_rows_of(
        &self,
        input: usize,
        mut f: impl FnMut((usize, usize, usize), &mut [f32]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.for_filled(self.output.desc.shape.dim(0), input, |span, out| f(span.row, out))
    }

    /// Assigns pieces of rows of the output, filled with the same piece of an input as F32. Output and input may be the
    /// same memory. An input's smaller sizes are broadcast (only in dimensions 1 to 3).
    ///
    /// # Errors
    /// Those of [`CpuStep::for_rows`] and [`View::load`].
    pub fn for_spans(
        &self,
        input: usize,
        f: impl FnMut(&Span, &mut [f32]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.for_filled(SPAN, input, f)
    }

    fn for_filled(
        &self,
        span: usize,
        input: usize,
        mut f: impl FnMut(&Span, &mut [f32]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let view = self.input(input);
        let in_place = view.raw().is_same(&self.output);
        self.for_pieces(span, |span, out| {
            if !in_place {
                view.load(span.elements.start, span.row, out)?;
            }
            f(&span, out)
        })
    }

    fn for_pieces<T: Pod>(
        &self,
        span: usize,
        mut f: impl FnMut(Span, &mut [T]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        if !holds::<T>(&desc) {
            return Err(self.misused(ELEMENT));
        }
        let n = desc.shape.dim(0);
        let pieces = n.div_ceil(span).max(1);
        self.deal(desc.shape.rows() * pieces, |piece| {
            let row = desc.row_index(piece / pieces);
            let first = piece % pieces * span;
            let elements = first..n.min(first + span);
            let offset = desc.row_offset(row.0, row.1, row.2) + first * size_of::<T>();
            // SAFETY: the piece is inside the output, plain elements are contiguous in a row, outputs are aligned to
            // their elements, and each piece is assigned to one worker once.
            let out = unsafe {
                slice::from_raw_parts_mut(self.output.data.add(offset).cast::<T>(), elements.len())
            };
            f(Span { row, elements }, out)
        })
    }

    /// Writes rows into the output, a state: for each `i` of `0..n`, `place(i)` gives the row's number (in order;
    /// `None` writes nothing) and `f(i, elements)` fills it, with blocks as elements for a block format. If two `i`
    /// name the same row, the later one wins, for any number of workers. Every worker calls `place` for every `i`, so
    /// that all find the same error; `f`, which one worker calls, cannot fail.
    ///
    /// # Errors
    /// An error of `place`, or a row outside the output; some rows are written by then. [`StepError::Misuse`] inside
    /// another deal, or if `T` does not have the size of the output's elements or blocks.
    pub fn scatter_rows<T: Pod>(
        &self,
        n: usize,
        place: impl Fn(usize) -> Result<Option<usize>, StepError>,
        f: impl FnMut(usize, &mut [T]),
    ) -> Result<(), StepError> {
        if !holds_blocks::<T>(&self.output.desc) {
            return Err(self.misused(ELEMENT));
        }
        if self.dealing.replace(true) {
            return Err(self.misused(NESTED));
        }
        let result = self.scatter(n, place, f);
        self.dealing.set(false);
        self.scattered.set(true);
        result
    }

    fn scatter<T: Pod>(
        &self,
        n: usize,
        place: impl Fn(usize) -> Result<Option<usize>, StepError>,
        mut f: impl FnMut(usize, &mut [T]),
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        for i in 0..n {
            let Some(row) = place(i)? else { continue };
            if row >= desc.shape.rows() {
                let limit = desc.shape.rows();
                return Err(StepError::Index { what: "the row to write", index: row as i64, limit });
            }
            if row % self.worker.count() != self.worker.index() {
                continue;
            }
            let (i1, i2, i3) = desc.row_index(row);
            // SAFETY: the row is inside the output, its elements or blocks are contiguous; plain elements are aligned,
            // and blocks need not be; each row number belongs to exactly one worker.
            let out = unsafe {
                let row = self.output.data.add(desc.row_offset(i1, i2, i3)).cast::<T>();
                slice::from_raw_parts_mut(row, desc.shape.dim(0) / desc.dtype.block_elements())
            };
            f(i, out);
        }
        Ok(())
    }
}
