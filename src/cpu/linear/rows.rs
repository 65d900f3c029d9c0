//! Borrowed rows of f32 and scratch memory that the workers of a run share.

use std::marker::PhantomData;

/// Equally spaced rows of f32 values to read.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    start: *const f32,
    len: usize,
    stride: usize,
    borrow: PhantomData<&'a [f32]>,
}

// SAFETY: equivalent to a shared slice.
unsafe impl Send for Rows<'_> {}
// SAFETY: equivalent to a shared slice.
unsafe impl Sync for Rows<'_> {}

impl<'a> Rows<'a> {
    /// Rows in `values` whose starts are `stride` values apart.
    pub fn new(values: &'a [f32], stride: usize) -> Rows<'a> {
        Rows { start: values.as_ptr(), len: values.len(), stride, borrow: PhantomData }
    }

    /// Rows in the `len` values at `start`.
    ///
    /// # Safety
    /// The values stay valid for reads during `'a`. The function that takes the rows defines what may write them
    /// meanwhile.
    pub unsafe fn from_raw(start: *const f32, len: usize, stride: usize) -> Rows<'a> {
        Rows { start, len, stride, borrow: PhantomData }
    }

    /// The number of values, including those between rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The values that `rows` rows of `columns` span; `None` on overflow.
    pub(super) fn needed(&self, rows: usize, columns: usize) -> Option<usize> {
        needed(self.stride, rows, columns)
    }

    /// The start of row `row`, which must be one that the length was checked for.
    pub(super) fn row(&self, row: usize) -> *const f32 {
        self.start.wrapping_add(row * self.stride)
    }
}

/// Equally spaced rows of f32 values to write. The workers of a run write different parts.
pub struct RowsMut<'a> {
    start: *mut f32,
    len: usize,
    stride: usize,
    /// The actual row of each row number, if they differ.
    order: Option<&'a [u32]>,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: equivalent to an exclusive slice, and only unsafe functions access it.
unsafe impl Send for RowsMut<'_> {}
// SAFETY: only unsafe functions access it, and they define which worker writes which part.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// Rows in `values` whose starts are `stride` values apart.
    pub fn new(values: &'a mut [f32], stride: usize) -> RowsMut<'a> {
        RowsMut { start: values.as_mut_ptr(), len: values.len(), stride, order: None, borrow: PhantomData }
    }

    /// Rows in the `len` values at `start`.
    ///
    /// # Safety
    /// The values stay valid for reads and writes during `'a`. The function that takes the rows defines what else may
    /// access them meanwhile.
    pub unsafe fn from_raw(start: *mut f32, len: usize, stride: usize) -> RowsMut<'a> {
        RowsMut { start, len, stride, order: None, borrow: PhantomData }
    }

    /// The number of values, including those between rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The values that `rows` rows of `columns` span; `None` on overflow, or if rows overlap.
    pub(super) fn needed(&self, rows: usize, columns: usize) -> Option<usize> {
        if rows > 1 && self.stride < columns {
            return None;
        }
        needed(self.stride, rows, columns)
    }

    /// The start of row `row`, which must be one that the length was checked for.
    pub(super) fn row(&self, row: usize) -> *mut f32 {
        let row = self.order.map_or(row, |order| order[row] as usize);
        self.start.wrapping_add(row * self.stride)
    }

    /// The rows of `order`, whose length was checked, renumbered from 0.
    pub(super) fn ordered<'o>(&self, order: &'o [u32]) -> RowsMut<'o>
    where
        'a: 'o,
    {
        RowsMut {
            start: self.start,
            len: self.len,
            stride: self.stride,
            order: Some(order),
            borrow: PhantomData,
        }
    }
}

fn needed(stride: usize, rows: usize, columns: usize) -> Option<usize> {
    match rows.checked_sub(1) {
        Some(before) => before.checked_mul(stride)?.checked_add(columns),
        None => Some(0),
    }
}

/// Memory that the workers of a run share.
pub struct Scratch<'a> {
    start: *mut u8,
    len: usize,
    borrow: PhantomData<&'a mut [u8]>,
}

// SAFETY: equivalent to an exclusive slice, and only unsafe functions access it.
unsafe impl Send for Scratch<'_> {}
// SAFETY: only unsafe functions access it, and they define which worker uses which part.
unsafe impl Sync for Scratch<'_> {}

impl<'a> Scratch<'a> {
    /// Scratch memory at any address.
    pub fn new(bytes: &'a mut [u8]) -> Scratch<'a> {
        Scratch { start: bytes.as_mut_ptr(), len: bytes.len(), borrow: PhantomData }
    }

    /// The `len` bytes at `start`.
    ///
    /// # Safety
    /// The bytes stay valid for reads and writes during `'a`.
    pub unsafe fn from_raw(start: *mut u8, len: usize) -> Scratch<'a> {
        Scratch { start, len, borrow: PhantomData }
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The start, rounded up to a cache line.
    pub(super) fn aligned(&self) -> *mut u8 {
        self.start.wrapping_add(self.start.align_offset(crate::cpu::activations::ALIGN))
    }
}
