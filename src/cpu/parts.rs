//! Parts of several outputs that are assigned together: each output's part of the same heads or channels.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use bytemuck::Pod;

use super::step::{ELEMENT, holds};
use super::view::note;
use super::{CpuStep, RawTensor, StepError, View};

/// A part of an output, assigned to one worker: all elements whose index in one dimension is in a range.
pub struct Part<'t> {
    output: RawTensor,
    dim: usize,
    indices: Range<usize>,
    misuse: &'t Cell<Option<&'static str>>,
    lifetime: PhantomData<&'t mut [u8]>,
}

impl Part<'_> {
    /// The elements of a row that belong to the part: all of them, or those in its range if the part's dimension is 0.
    /// A state's elements hold its content from before the step until they are written.
    ///
    /// # Errors
    /// [`StepError::Misuse`] if the row is not in this part, or `T` does not have the element's size.
    pub fn row<T: Pod>(&mut self, i1: usize, i2: usize, i3: usize) -> Result<&mut [T], StepError> {
        let desc = &self.output.desc;
        let index = [0, i1, i2, i3];
        let inside = (1..4).all(|dim| index[dim] < desc.shape.dim(dim));
        if !inside || self.dim > 0 && !self.indices.contains(&index[self.dim]) {
            return Err(note(self.misuse, "it writes a row that is not of its part"));
        }
        if !holds::<T>(desc) {
            return Err(note(self.misuse, ELEMENT));
        }
        let elements = if self.dim == 0 { self.indices.clone() } else { 0..desc.shape.dim(0) };
        let offset = desc.row_offset(i1, i2, i3) + elements.start * size_of::<T>();
        // SAFETY: the elements are inside the output and belong to this part alone, which is borrowed mutably; plain
        // elements are contiguous in a row, and outputs are aligned to their elements.
        Ok(unsafe { slice::from_raw_parts_mut(self.output.data.add(offset).cast::<T>(), elements.len()) })
    }

    /// The elements of several rows that lie one after another without gaps, like [`Part::row`]. The part's dimension
    /// must not be 0.
    ///
    /// # Errors
    /// Those of [`Part::row`], and [`StepError::Misuse`] if there are gaps between the rows.
    pub fn rows<T: Pod>(&mut self, i1: Range<usize>, i2: usize, i3: usize) -> Result<&mut [T], StepError> {
        let desc = self.output.desc;
        let n = desc.shape.dim(0);
        if self.dim == 0 || desc.strides[1] != n * size_of::<T>() {
            return Err(note(self.misuse, "it writes rows with gaps as one slice"));
        }
        let Some(last) = i1.clone().next_back() else { return Ok(&mut []) };
        // Both ends are of this part, and so are the rows between them: its indices are a range.
        self.row::<T>(last, i2, i3)?;
        self.row::<T>(i1.start, i2, i3)?;
        let offset = desc.row_offset(i1.start, i2, i3);
        // SAFETY: these rows are inside the output, contiguous, and belong to this part alone, which is borrowed
        // mutably; plain elements are contiguous in a row, and outputs are aligned to their elements.
        Ok(unsafe { slice::from_raw_parts_mut(self.output.data.add(offset).cast::<T>(), n * i1.len()) })
    }

    /// Like [`Part::row`], filled with the same elements of `input` as F32. Output and input may be the same memory.
    ///
    /// # Errors
    /// Those of [`Part::row`] and [`View::load`].
    pub fn row_of(
        &mut self,
        input: &View<'_>,
        i1: usize,
        i2: usize,
        i3: usize,
    ) -> Result<&mut [f32], StepError> {
        let in_place = input.raw().is_same(&self.output);
        let start = if self.dim == 0 { self.indices.start } else { 0 };
        let row = self.row(i1, i2, i3)?;
        if !in_place {
            input.load(start, (i1, i2, i3), row)?;
        }
        Ok(row)
    }
}

impl CpuStep<'_> {
    /// Assigns parts of the first `N` outputs together: `f(indices, parts)`, where `parts[k]` is output `k` restricted
    /// to `indices` of its dimension `dims[k]`, at most `most` of them. A worker thus computes some heads, or channels,
    /// of every output, and no other worker accesses them.
    ///
    /// # Errors
    /// An error of `f` on any worker; [`StepError::Misuse`] inside another deal, if the step has fewer than `N`
    /// outputs, or if the outputs differ in size in those dimensions.
    pub fn for_parts<const N: usize>(
        &self,
        dims: [usize; N],
        most: usize,
        mut f: impl FnMut(Range<usize>, [Part<'_>; N]) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        if dims.iter().any(|&dim| dim > 3) {
            return Err(self.misused("it deals parts along a dimension above 3"));
        }
        let size = |(output, &dim): (&RawTensor, &usize)| output.desc.shape.dim(dim);
        let mut sizes = self.all_outputs().zip(&dims).map(size);
        let n = sizes.next().unwrap_or(0);
        if !sizes.all(|size| size == n) || 1 + self.further.len() < N {
            return Err(self.misused("it deals parts of outputs that are too few, or of different sizes"));
        }
        let most = most.max(1);
        self.deal(n.div_ceil(most), |piece| {
            let indices = piece * most..n.min((piece * most).saturating_add(most));
            let part = |k: usize| {
                // The step has at least `N` outputs.
                let output = self.all_outputs().nth(k).copied().unwrap_or(self.output);
                let (dim, indices) = (dims[k], indices.clone());
                Part { output, dim, indices, misuse: &self.misuse, lifetime: PhantomData }
            };
            f(indices.clone(), std::array::from_fn(part))
        })
    }
}
