//! One step of a plan as the CPU runs it: inputs, output, scratch, and how rows are dealt out.
//!
//! Every worker calls the operator with the same step. The methods here deal each piece of the
//! output to exactly one worker, which is what lets operators be written without `unsafe`.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use bytemuck::Pod;
use half::{bf16, f16};

use super::linear::LinearError;
use super::vector::Element;
use super::{Isa, Worker};
use crate::tensor::blocks::{self, BlockError};
use crate::tensor::{DType, Desc};

/// The longest piece of a row that elementwise operators are dealt at once: 16 KiB of output, so
/// that one long row of a decode step still keeps several workers busy.
const SPAN: usize = 4096;

/// Shares of scratch memory are multiples of this many bytes.
const SCRATCH_LINE: usize = 64;

/// Why a step cannot be done. Shapes were checked long before; these are faults of the data.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// An index that is outside of what it counts.
    #[error("{what} is {index}, outside of 0..{limit}")]
    Index {
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: i64,
        /// How many there are.
        limit: usize,
    },
    /// Blocks that cannot be read as numbers.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A product that the kernels refuse.
    #[error(transparent)]
    Product(#[from] LinearError),
}

impl StepError {
    /// `index` as a place below `limit`, or an error that says what it counts.
    pub fn check(what: &'static str, index: i32, limit: usize) -> Result<usize, StepError> {
        match usize::try_from(index) {
            Ok(index) if index < limit => Ok(index),
            _ => Err(StepError::Index { what, index: index.into(), limit }),
        }
    }
}

/// A tensor's description and address.
#[derive(Clone, Copy, Debug)]
pub struct RawTensor {
    /// Dtype, shape and strides.
    pub desc: Desc,
    /// The first element.
    pub data: *mut u8,
}

/// A tensor that a step reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    raw: RawTensor,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> View<'a> {
    /// Dtype, shape and strides.
    pub fn desc(&self) -> &Desc {
        &self.raw.desc
    }

    /// The size of dimension `i`.
    pub fn dim(&self, i: usize) -> usize {
        self.raw.desc.shape.dim(i)
    }

    /// The address, for kernels that do their own arithmetic.
    pub fn raw(&self) -> RawTensor {
        self.raw
    }

    /// The bytes of a row, in its block format. Rows must be contiguous; indices past a dimension
    /// wrap around, which is what broadcasting means.
    pub fn row_bytes(&self, index: (usize, usize, usize)) -> &'a [u8] {
        let desc = &self.raw.desc;
        debug_assert!(desc.rows_are_contiguous());
        let bytes = desc.shape.dim(0) / desc.dtype.block_elements() * desc.dtype.block_bytes();
        // SAFETY: the indices are reduced below the shape's sizes, so the row lies inside the tensor,
        // which the maker of the step promised to be readable for 'a.
        unsafe { slice::from_raw_parts(self.raw.data.add(self.row_offset(index)), bytes) }
    }

    /// A contiguous row of plain elements; empty if `T` is not the element's size. Indices past a
    /// dimension wrap around.
    pub fn row<T: Pod>(&self, index: (usize, usize, usize)) -> &'a [T] {
        let row = bytemuck::try_cast_slice(self.row_bytes(index));
        debug_assert!(row.is_ok(), "{} is not read as {}", self.raw.desc, std::any::type_name::<T>());
        row.unwrap_or(&[])
    }

    /// All bytes of a contiguous tensor.
    pub fn bytes(&self) -> &'a [u8] {
        let desc = &self.raw.desc;
        debug_assert!(desc.is_contiguous());
        // SAFETY: a contiguous tensor's elements are its extent, readable for 'a.
        unsafe { slice::from_raw_parts(self.raw.data.cast_const(), desc.extent()) }
    }

    /// All elements of a contiguous tensor of plain elements.
    pub fn all<T: Pod>(&self) -> &'a [T] {
        bytemuck::try_cast_slice(self.bytes()).unwrap_or(&[])
    }

    /// Reads elements `first..first + out.len()` of a row of plain elements as they are, whatever the
    /// strides. Indices past a dimension wrap around.
    ///
    /// # Panics
    /// If `T` is not the element's size.
    pub fn read<T: Pod>(&self, first: usize, index: (usize, usize, usize), out: &mut [T]) {
        let desc = &self.raw.desc;
        assert!(desc.dtype.is_plain() && desc.dtype.block_bytes() == size_of::<T>());
        assert!(first + out.len() <= desc.shape.dim(0));
        let start = self.row_offset(index) + first * desc.strides[0];
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: the element is inside its row, and the row inside the tensor; the read needs no
            // alignment.
            *out = unsafe { self.raw.data.add(start + i * desc.strides[0]).cast::<T>().read_unaligned() };
        }
    }

    /// Reads elements `first..first + out.len()` of a row as F32, whatever the dtype and strides.
    /// For block formats the piece must be whole blocks. Indices past a dimension wrap around.
    pub fn load(&self, first: usize, index: (usize, usize, usize), out: &mut [f32]) -> Result<(), StepError> {
        let desc = &self.raw.desc;
        debug_assert!(first + out.len() <= desc.shape.dim(0));
        let step = desc.strides[0];
        let offset = self.row_offset(index) + first / desc.dtype.block_elements() * step;
        // SAFETY: `first` is inside the row, and the row inside the tensor.
        let at = unsafe { self.raw.data.add(offset) };
        match desc.dtype {
            // SAFETY: element i lies i steps on, inside the row.
            DType::F32 => unsafe { gather::<f32>(at, step, out) },
            // SAFETY: as above.
            DType::F16 => unsafe { gather::<f16>(at, step, out) },
            // SAFETY: as above.
            DType::BF16 => unsafe { gather::<bf16>(at, step, out) },
            // SAFETY: as above.
            DType::I32 => unsafe { gather::<i32>(at, step, out) },
            dtype => {
                let bytes = out.len() / dtype.block_elements() * dtype.block_bytes();
                // SAFETY: the blocks of a row lie side by side (`infer` accepts no other view of
                // blocks), and `first + out.len()` is inside the row.
                let blocks = unsafe { slice::from_raw_parts(at, bytes) };
                blocks::dequantize(dtype, blocks, out)?;
            }
        }
        Ok(())
    }

    fn row_offset(&self, (i1, i2, i3): (usize, usize, usize)) -> usize {
        let desc = &self.raw.desc;
        // Most indices are inside; a division would cost more than the rest of the address.
        let wrap = |i: usize, dim: usize| if i < desc.shape.dim(dim) { i } else { i % desc.shape.dim(dim) };
        desc.row_offset(wrap(i1, 1), wrap(i2, 2), wrap(i3, 3))
    }
}

/// Reads one element every `step` bytes.
///
/// # Safety
/// `out.len()` elements must be readable from `at` on, `step` bytes apart.
unsafe fn gather<T: Element>(at: *const u8, step: usize, out: &mut [f32]) {
    if step == size_of::<T>() && at.cast::<T>().is_aligned() {
        // SAFETY: the caller's promise; the elements lie side by side.
        return T::widen(unsafe { slice::from_raw_parts(at.cast::<T>(), out.len()) }, out);
    }
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise; the read needs no alignment.
        let element = unsafe { at.add(i * step).cast::<T>().read_unaligned() };
        T::widen(&[element], slice::from_mut(out));
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

/// One step of a plan, as one worker sees it.
pub struct CpuStep<'a> {
    worker: &'a Worker<'a>,
    isa: Isa,
    inputs: &'a [RawTensor],
    output: RawTensor,
    scratch: (*mut u8, usize),
    scratch_taken: Cell<bool>,
}

/// Some neighbouring rows of an output, dealt to one worker.
pub struct Tile<'t> {
    output: RawTensor,
    /// The rows' indices of dimension 1.
    pub i1: Range<usize>,
    /// The rows' indices of dimension 2.
    pub i2: Range<usize>,
    lifetime: PhantomData<&'t mut [u8]>,
}

impl Tile<'_> {
    /// A row of the tile.
    ///
    /// # Panics
    /// If the row is not of this tile.
    pub fn row<T: Pod>(&mut self, i1: usize, i2: usize) -> &mut [T] {
        let desc = &self.output.desc;
        assert!(self.i1.contains(&i1) && self.i2.contains(&i2), "row ({i1}, {i2}) is not of this tile");
        assert!(desc.dtype.block_bytes() == size_of::<T>());
        // SAFETY: the row lies inside the output and belongs to this tile alone; plain elements lie
        // side by side in a row, and outputs are aligned to their elements.
        unsafe {
            let row = self.output.data.add(desc.row_offset(i1, i2, 0)).cast::<T>();
            slice::from_raw_parts_mut(row, desc.shape.dim(0))
        }
    }

    /// A row of the tile that holds the same row of `input`, as F32. Works where output and input are
    /// the same memory.
    pub fn row_of(&mut self, input: &View<'_>, i1: usize, i2: usize) -> Result<&mut [f32], StepError> {
        let in_place = input.raw.data == self.output.data;
        let row = self.row(i1, i2);
        if !in_place {
            input.load(0, (i1, i2, 0), row)?;
        }
        Ok(row)
    }
}

impl<'a> CpuStep<'a> {
    /// A step over this memory.
    ///
    /// # Safety
    /// For 'a, every input's extent must be readable and the output's and scratch's writable, no one
    /// outside of this step may write the inputs or touch the output and scratch, and all workers must
    /// be given the same step. The output may share memory with an input only where the operator's
    /// [`Memory`](crate::graph::Memory) says so; then both have the same shape and strides.
    pub unsafe fn new(
        worker: &'a Worker<'a>,
        isa: Isa,
        inputs: &'a [RawTensor],
        output: RawTensor,
        scratch: (*mut u8, usize),
    ) -> CpuStep<'a> {
        CpuStep { worker, isa, inputs, output, scratch, scratch_taken: Cell::new(false) }
    }

    /// This worker.
    pub fn worker(&self) -> &'a Worker<'a> {
        self.worker
    }

    /// The instruction set to use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// An input. An index past the inputs gives the last one's description with no elements, which
    /// `infer` has ruled out.
    pub fn input(&self, i: usize) -> View<'a> {
        debug_assert!(i < self.inputs.len());
        View { raw: self.inputs[i], lifetime: PhantomData }
    }

    /// The number of inputs.
    pub fn n_inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The output's description.
    pub fn output(&self) -> &Desc {
        &self.output.desc
    }

    /// The output's address, for kernels that do their own arithmetic.
    pub fn output_raw(&self) -> RawTensor {
        self.output
    }

    /// Address and size of the scratch memory that the operator asked for.
    pub fn scratch_raw(&self) -> (*mut u8, usize) {
        self.scratch
    }

    /// This worker's equal share of the scratch memory. A second call gives nothing.
    pub fn take_scratch(&self) -> &'a mut [f32] {
        let (data, bytes) = self.scratch;
        let share = CpuStep::scratch_share(bytes / self.worker.count());
        if self.scratch_taken.replace(true) || share == 0 {
            return &mut [];
        }
        // SAFETY: the scratch is writable for 'a and aligned, shares of different workers do not
        // overlap, and the flag keeps this worker from getting its share twice.
        unsafe {
            let start = data.add(self.worker.index() * share).cast::<f32>();
            slice::from_raw_parts_mut(start, share / size_of::<f32>())
        }
    }

    /// The bytes of a share of scratch memory, so that each begins on a cache line of its own; see
    /// [`CpuStep::scratch_for`].
    fn scratch_share(bytes: usize) -> usize {
        bytes / SCRATCH_LINE * SCRATCH_LINE
    }

    /// Bytes of scratch memory that give each of `threads` workers a share of `elements` F32.
    pub fn scratch_for(elements: usize, threads: usize) -> usize {
        (elements * size_of::<f32>()).next_multiple_of(SCRATCH_LINE) * threads
    }

    /// Deals out tiles of at most `n1` by `n2` rows of an output that has no dimension 3.
    pub fn for_tiles(
        &self,
        (n1, n2): (usize, usize),
        mut f: impl FnMut(Tile<'_>) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        debug_assert!(desc.rows_are_contiguous() && desc.shape.dim(3) == 1);
        let (n1, n2) = (n1.max(1), n2.max(1));
        let across = desc.shape.dim(1).div_ceil(n1);
        let mut result = Ok(());
        self.worker.for_chunks(across * desc.shape.dim(2).div_ceil(n2), 1, |chunk| {
            for tile in chunk {
                let (first1, first2) = (tile % across * n1, tile / across * n2);
                let i1 = first1..desc.shape.dim(1).min(first1 + n1);
                let i2 = first2..desc.shape.dim(2).min(first2 + n2);
                let done = f(Tile { output: self.output, i1, i2, lifetime: PhantomData });
                if result.is_ok() {
                    result = done;
                }
            }
        });
        result
    }

    /// Deals out the rows of the output: `f(row, elements)`, each row to one worker.
    pub fn for_rows<T: Pod>(
        &self,
        mut f: impl FnMut((usize, usize, usize), &mut [T]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.deal(self.output.desc.shape.dim(0), |span, out| f(span.row, out))
    }

    /// Deals out the rows of the output, already filled with the rows of an input as F32. Works where
    /// output and input are the same memory.
    pub fn for_rows_of(
        &self,
        input: usize,
        mut f: impl FnMut((usize, usize, usize), &mut [f32]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.deal(self.output.desc.shape.dim(0), |span, out| {
            self.fill(input, &span, out)?;
            f(span.row, out)
        })
    }

    /// Deals out pieces of rows of the output, already filled with the same piece of an input as F32.
    /// Works where output and input are the same memory. An input's sizes that are smaller are
    /// repeated (only in dimensions 1 to 3).
    pub fn for_spans(
        &self,
        input: usize,
        mut f: impl FnMut(&Span, &mut [f32]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        self.deal(SPAN, |span, out| {
            self.fill(input, &span, out)?;
            f(&span, out)
        })
    }

    fn fill(&self, input: usize, span: &Span, out: &mut [f32]) -> Result<(), StepError> {
        let view = self.input(input);
        if view.raw.data == self.output.data {
            return Ok(());
        }
        view.load(span.elements.start, span.row, out)
    }

    fn deal<T: Pod>(
        &self,
        span: usize,
        mut f: impl FnMut(Span, &mut [T]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        debug_assert!(desc.rows_are_contiguous() && desc.dtype.block_bytes() == size_of::<T>());
        let n = desc.shape.dim(0);
        let pieces = n.div_ceil(span).max(1);
        let mut result = Ok(());
        self.worker.for_chunks(desc.shape.rows() * pieces, 1, |chunk| {
            for piece in chunk {
                let row = desc.row_index(piece / pieces);
                let first = piece % pieces * span;
                let elements = first..n.min(first + span);
                let offset = desc.row_offset(row.0, row.1, row.2) + first * size_of::<T>();
                // SAFETY: the piece lies inside the output, plain elements lie side by side in a row,
                // outputs are aligned to their elements, and each piece is dealt to one worker once.
                let out = unsafe {
                    slice::from_raw_parts_mut(self.output.data.add(offset).cast::<T>(), elements.len())
                };
                let done = f(Span { row, elements }, out);
                if result.is_ok() {
                    result = done;
                }
            }
        });
        result
    }

    /// Writes rows into the output, a state: for each `i` of `0..n`, `place(i)` says which row of it
    /// (counted in order; `None`: none) and `f(i, elements)` fills it. Should two `i` name one row, the
    /// later one wins, for any number of workers.
    pub fn scatter_rows<T: Pod>(
        &self,
        n: usize,
        place: impl Fn(usize) -> Result<Option<usize>, StepError>,
        mut f: impl FnMut(usize, &mut [T]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let desc = self.output.desc;
        assert!(desc.rows_are_contiguous() && desc.dtype.block_bytes() == size_of::<T>());
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
            // SAFETY: the row lies inside the output, plain elements lie side by side in a row, outputs
            // are aligned to their elements, and a row belongs to the one worker of its number.
            let out = unsafe {
                let row = self.output.data.add(desc.row_offset(i1, i2, i3)).cast::<T>();
                slice::from_raw_parts_mut(row, desc.shape.dim(0))
            };
            f(i, out)?;
        }
        Ok(())
    }
}
