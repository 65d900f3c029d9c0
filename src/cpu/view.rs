//! The input tensors of a step, as slices and copies that are safe to use.

use std::cell::Cell;
use std::slice;

use bytemuck::Pod;
use half::{bf16, f16};

use super::StepError;
use super::vector::Element;
use crate::tensor::blocks;
use crate::tensor::{DType, Desc};

/// A tensor's description and address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTensor {
    /// Dtype, shape and strides.
    pub desc: Desc,
    /// The address of the first element.
    pub data: *mut u8,
}

impl RawTensor {
    /// True if the byte ranges of both tensors, from first to last element, overlap.
    pub(super) fn overlaps(&self, other: &RawTensor) -> bool {
        let range = |tensor: &RawTensor| (tensor.data as usize, tensor.data as usize + tensor.desc.extent());
        let (a, b) = (range(self), range(other));
        a.0 < b.1 && b.0 < a.1
    }

    /// True if both are the same elements at the same addresses.
    pub(super) fn is_same(&self, other: &RawTensor) -> bool {
        self.data == other.data && self.desc == other.desc
    }
}

/// An input tensor of a step.
///
/// If an output has taken over the input's memory ([`Memory`](crate::graph::Memory)), other workers write what a view
/// would read. Such a view only gives the description and the address; use
/// [`CpuStep::for_rows_of`](super::CpuStep::for_rows_of), [`CpuStep::for_spans`](super::CpuStep::for_spans),
/// [`Tile::row_of`](super::Tile::row_of) and [`Part::row_of`](super::Part::row_of) for its elements. A misuse gives no
/// elements and fails the step with [`StepError::Misuse`].
#[derive(Clone, Copy, Debug)]
pub struct View<'s> {
    raw: RawTensor,
    /// True if an output has this memory.
    shared: bool,
    /// True if rows may be given as slices.
    whole_rows: bool,
    misuse: &'s Cell<Option<&'static str>>,
}

const SHARED: &str = "it reads an input whose memory is the output's";
const OUTSIDE: &str = "it reads past the end of a row";
const GAPS: &str = "it reads a tensor with gaps as one slice";
const ELEMENT: &str = "it reads elements of another size than they have";

impl<'s> View<'s> {
    /// A view of a tensor that is readable for 's, and not written meanwhile unless `shared`. Misuses are recorded in
    /// `misuse`.
    ///
    /// # Safety
    /// The tensor's extent is readable for 's, and not written meanwhile unless `shared` says so.
    pub(super) unsafe fn new(
        raw: RawTensor,
        shared: bool,
        misuse: &'s Cell<Option<&'static str>>,
    ) -> View<'s> {
        View { raw, shared, whole_rows: !shared && raw.desc.rows_are_contiguous(), misuse }
    }

    /// Dtype, shape and strides.
    pub fn desc(&self) -> &Desc {
        &self.raw.desc
    }

    /// The size of dimension `i`.
    pub fn dim(&self, i: usize) -> usize {
        self.raw.desc.shape.dim(i)
    }

    /// The address, for kernels that do their own arithmetic.
    pub(super) fn raw(&self) -> RawTensor {
        self.raw
    }

    /// True if an output has this memory.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The bytes of a row, in its block format. Empty if rows are not contiguous or are the output's memory. Indices
    /// past a dimension wrap around, as broadcasting requires.
    pub fn row_bytes(&self, index: (usize, usize, usize)) -> &'s [u8] {
        if !self.whole_rows {
            self.misused(if self.shared { SHARED } else { GAPS });
            return &[];
        }
        let desc = &self.raw.desc;
        let bytes = desc.shape.dim(0) / desc.dtype.block_elements() * desc.dtype.block_bytes();
        // SAFETY: the indices are reduced below the shape's sizes, so the row is inside the tensor, and its bytes are
        // contiguous; the constructor's caller guarantees that it is readable for 's.
        unsafe { slice::from_raw_parts(self.raw.data.add(self.row_offset(index)), bytes) }
    }

    /// A row of plain elements; empty where [`View::row_bytes`] is, or if `T` does not have the element's size. Indices
    /// past a dimension wrap around.
    pub fn row<T: Pod>(&self, index: (usize, usize, usize)) -> &'s [T] {
        self.elements(self.row_bytes(index), self.dim(0))
    }

    /// All bytes of a tensor. Empty if it is not contiguous or is the output's memory.
    pub fn bytes(&self) -> &'s [u8] {
        let desc = &self.raw.desc;
        if self.shared || !desc.is_contiguous() {
            self.misused(if self.shared { SHARED } else { GAPS });
            return &[];
        }
        // SAFETY: a contiguous tensor's elements are its extent, readable for 's.
        unsafe { slice::from_raw_parts(self.raw.data.cast_const(), desc.extent()) }
    }

    /// All elements of a tensor of plain elements; empty where [`View::bytes`] is, or if `T` does not have the
    /// element's size.
    pub fn all<T: Pod>(&self) -> &'s [T] {
        self.elements(self.bytes(), self.raw.desc.shape.elements())
    }

    /// Bytes as `n` elements.
    fn elements<T: Pod>(&self, bytes: &'s [u8], n: usize) -> &'s [T] {
        match bytemuck::try_cast_slice(bytes) {
            Ok(elements) if elements.len() == n => elements,
            _ => {
                self.misused(ELEMENT);
                &[]
            }
        }
    }

    /// Reads elements `first..first + out.len()` of a row of plain elements without conversion, for any strides.
    /// Indices past a dimension wrap around.
    ///
    /// # Errors
    /// [`StepError::Misuse`] if `T` does not have the element's size, the row has fewer elements, or its memory is the
    /// output's.
    pub fn read<T: Pod>(
        &self,
        first: usize,
        index: (usize, usize, usize),
        out: &mut [T],
    ) -> Result<(), StepError> {
        let desc = &self.raw.desc;
        if !desc.dtype.is_plain() || desc.dtype.block_bytes() != size_of::<T>() {
            return Err(self.misused(ELEMENT));
        }
        self.check_piece(first, out.len())?;
        let start = self.row_offset(index) + first * desc.strides[0];
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: the element is inside its row, and the row inside the tensor; the read needs no
            // alignment.
            *out = unsafe { self.raw.data.add(start + i * desc.strides[0]).cast::<T>().read_unaligned() };
        }
        Ok(())
    }

    /// Reads elements `first..first + out.len()` of a row as F32, for any dtype and strides. The piece of a block
    /// format must be whole blocks. Indices past a dimension wrap around.
    ///
    /// # Errors
    /// [`StepError::Misuse`] if the row has fewer elements, blocks are cut or have gaps, or the row's memory is the
    /// output's; [`StepError::Block`] if the blocks cannot be read.
    pub fn load(&self, first: usize, index: (usize, usize, usize), out: &mut [f32]) -> Result<(), StepError> {
        self.check_piece(first, out.len())?;
        let desc = &self.raw.desc;
        let step = desc.strides[0];
        let offset = self.row_offset(index) + first / desc.dtype.block_elements() * step;
        let at = self.raw.data.wrapping_add(offset);
        match desc.dtype {
            // SAFETY: element i is i steps from `at`, inside the row.
            DType::F32 => unsafe { gather::<f32>(at, step, out) },
            // SAFETY: element i is i steps from `at`, inside the row.
            DType::F16 => unsafe { gather::<f16>(at, step, out) },
            // SAFETY: element i is i steps from `at`, inside the row.
            DType::BF16 => unsafe { gather::<bf16>(at, step, out) },
            // SAFETY: element i is i steps from `at`, inside the row.
            DType::I32 => unsafe { gather::<i32>(at, step, out) },
            dtype => {
                if !self.whole_rows || !first.is_multiple_of(dtype.block_elements()) {
                    return Err(self.misused("it reads blocks that are cut or have gaps"));
                }
                let bytes = out.len() / dtype.block_elements() * dtype.block_bytes();
                // SAFETY: the blocks of the row are contiguous, and `first + out.len()` is inside it.
                let blocks = unsafe { slice::from_raw_parts(at, bytes) };
                blocks::dequantize(dtype, blocks, out)?;
            }
        }
        Ok(())
    }

    /// Checks that a piece of a row may be read.
    fn check_piece(&self, first: usize, len: usize) -> Result<(), StepError> {
        let n = self.dim(0);
        if self.shared {
            return Err(self.misused(SHARED));
        }
        if len > n || first > n - len {
            return Err(self.misused(OUTSIDE));
        }
        Ok(())
    }

    #[cold]
    fn misused(&self, what: &'static str) -> StepError {
        note(self.misuse, what)
    }

    fn row_offset(&self, (i1, i2, i3): (usize, usize, usize)) -> usize {
        let desc = &self.raw.desc;
        // Most indices are in range, and a division would cost more than the rest of the address.
        let wrap = |i: usize, dim: usize| if i < desc.shape.dim(dim) { i } else { i % desc.shape.dim(dim) };
        desc.row_offset(wrap(i1, 1), wrap(i2, 2), wrap(i3, 3))
    }
}

/// Stores the first misuse of a step, and returns `what` as an error.
#[cold]
pub(super) fn note(misuse: &Cell<Option<&'static str>>, what: &'static str) -> StepError {
    misuse.set(misuse.get().or(Some(what)));
    StepError::Misuse { what }
}

/// Reads one element every `step` bytes.
///
/// # Safety
/// `out.len()` elements must be readable from `at` on, `step` bytes apart.
unsafe fn gather<T: Element>(at: *const u8, step: usize, out: &mut [f32]) {
    if step == size_of::<T>() && at.cast::<T>().is_aligned() {
        // SAFETY: guaranteed by the caller; the elements are contiguous.
        return T::widen(unsafe { slice::from_raw_parts(at.cast::<T>(), out.len()) }, out);
    }
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: guaranteed by the caller; the read needs no alignment.
        let element = unsafe { at.add(i * step).cast::<T>().read_unaligned() };
        T::widen(&[element], slice::from_mut(out));
    }
}
