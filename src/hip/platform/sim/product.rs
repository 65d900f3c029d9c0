//! A queued dense product: its matrices, the memory that it touches, and its execution as plain loops.

use std::ffi::c_int;

use half::{bf16, f16};

use crate::hip::api::{HIP_R_16F, HIP_R_32F};

/// A column-major matrix whose columns are `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub at: usize,
    pub dtype: c_int,
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
}

impl Matrix {
    fn element_bytes(&self) -> usize {
        if self.dtype == HIP_R_32F { 4 } else { 2 }
    }

    /// Bytes from the first element to the last.
    fn bytes(&self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => ((columns - 1) * self.stride + rows) * self.element_bytes(),
        }
    }

    /// # Safety
    /// The matrix must be in readable memory and contain this element.
    unsafe fn get(&self, row: usize, column: usize) -> f32 {
        let at = self.at + (column * self.stride + row) * self.element_bytes();
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.dtype {
                HIP_R_32F => (at as *const f32).read_unaligned(),
                HIP_R_16F => (at as *const f16).read_unaligned().to_f32(),
                _ => (at as *const bf16).read_unaligned().to_f32(),
            }
        }
    }

    /// # Safety
    /// The matrix must be in writable memory and contain this element.
    unsafe fn set(&self, row: usize, column: usize, value: f32) {
        let at = self.at + (column * self.stride + row) * self.element_bytes();
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.dtype {
                HIP_R_32F => (at as *mut f32).write_unaligned(value),
                HIP_R_16F => (at as *mut f16).write_unaligned(f16::from_f32(value)),
                _ => (at as *mut bf16).write_unaligned(bf16::from_f32(value)),
            }
        }
    }
}

/// `C = alpha · op(A) · op(B) + beta · C`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub a: Matrix,
    pub b: Matrix,
    pub c: Matrix,
    pub transposed: (bool, bool),
    pub k: usize,
    pub alpha: f32,
    pub beta: f32,
}

impl Product {
    /// Start, bytes and writes of each matrix. A matrix that the product is added to is also read.
    pub fn ranges(&self) -> Vec<(usize, usize, bool)> {
        let range = |matrix: &Matrix, writes| (matrix.at, matrix.bytes(), writes);
        let mut ranges = vec![range(&self.a, false), range(&self.b, false)];
        if self.beta != 0.0 {
            ranges.push(range(&self.c, false));
        }
        ranges.push(range(&self.c, true));
        ranges
    }

    /// # Safety
    /// Every range must be in live memory that is not otherwise used meanwhile.
    pub unsafe fn run(&self) {
        let (m, n, k) = (self.c.rows, self.c.columns, self.k);
        // Both operands as f32, with `k` as the inner dimension.
        let gather = |matrix: &Matrix, k_is_row: bool, outer: usize| {
            let mut values = Vec::with_capacity(outer * k);
            for i in 0..outer {
                for p in 0..k {
                    let (row, column) = if k_is_row { (p, i) } else { (i, p) };
                    // SAFETY: guaranteed by the caller.
                    values.push(unsafe { matrix.get(row, column) });
                }
            }
            values
        };
        let a = gather(&self.a, self.transposed.0, m);
        let b = gather(&self.b, !self.transposed.1, n);
        for column in 0..n {
            for row in 0..m {
                let (a, b) = (&a[row * k..][..k], &b[column * k..][..k]);
                let sum: f32 = a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b);
                // SAFETY: guaranteed by the caller.
                unsafe {
                    let before = if self.beta == 0.0 { 0.0 } else { self.beta * self.c.get(row, column) };
                    self.c.set(row, column, self.alpha * sum + before);
                }
            }
        }
    }
}
