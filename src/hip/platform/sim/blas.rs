//! Dense products on the simulated device: plain loops, queued like a kernel.
#![allow(non_snake_case, reason = "HIP's own names")]

use std::ffi::{c_int, c_void};

use half::{bf16, f16};

use super::queue::Work;
use super::registry::{self, Object};
use crate::hip::api::{
    Blas, HIP_R_16BF, HIP_R_16F, HIP_R_32F, HIPBLAS_COMPUTE_32F, HIPBLAS_OP_N, HIPBLAS_OP_T, hipStream_t,
    hipblasHandle_t, hipblasStatus_t,
};

/// `hipblasStatus_t`, in hipBLAS's numbering.
mod status {
    pub const SUCCESS: i32 = 0;
    pub const NOT_INITIALIZED: i32 = 1;
    pub const INVALID_VALUE: i32 = 3;
    pub const EXECUTION_FAILED: i32 = 5;
    pub const NOT_SUPPORTED: i32 = 7;
}

pub(super) const TABLE: Blas = Blas { hipblasCreate, hipblasDestroy, hipblasSetStream, hipblasGemmEx };

/// A column-major matrix whose columns are `stride` elements apart.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    at: usize,
    dtype: c_int,
    rows: usize,
    columns: usize,
    stride: usize,
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
    a: Matrix,
    b: Matrix,
    c: Matrix,
    transposed: (bool, bool),
    k: usize,
    alpha: f32,
    beta: f32,
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

unsafe extern "C" fn hipblasCreate(handle: *mut hipblasHandle_t) -> hipblasStatus_t {
    let Ok(device) = registry::current() else { return status::NOT_INITIALIZED };
    let mut state = device.lock();
    if state.enter("hipblasCreate").is_err() {
        return status::NOT_INITIALIZED;
    }
    if !device.config.blas {
        return status::NOT_SUPPORTED;
    }
    let made = registry::insert(&device, &mut state, Object::Blas);
    // SAFETY: the caller's pointer, by the function's contract.
    unsafe { *handle = made };
    status::SUCCESS
}

unsafe extern "C" fn hipblasDestroy(handle: hipblasHandle_t) -> hipblasStatus_t {
    let Ok((device, Object::Blas)) = registry::resolve("hipblasDestroy", "BLAS handle", handle) else {
        return status::NOT_INITIALIZED;
    };
    let mut state = device.lock();
    let entered = state.enter("hipblasDestroy");
    registry::take(handle, &mut state);
    state.blas_lanes.remove(&(handle as usize));
    if entered.is_err() { status::EXECUTION_FAILED } else { status::SUCCESS }
}

unsafe extern "C" fn hipblasSetStream(handle: hipblasHandle_t, stream: hipStream_t) -> hipblasStatus_t {
    let Ok((device, Object::Blas)) = registry::resolve("hipblasSetStream", "BLAS handle", handle) else {
        return status::NOT_INITIALIZED;
    };
    let Ok((_, Object::Stream(lane))) = registry::resolve("hipblasSetStream", "stream", stream) else {
        return status::INVALID_VALUE;
    };
    let mut state = device.lock();
    if state.enter("hipblasSetStream").is_err() {
        return status::EXECUTION_FAILED;
    }
    state.blas_lanes.insert(handle as usize, lane);
    status::SUCCESS
}

#[allow(clippy::too_many_arguments, reason = "hipBLAS's own signature")]
unsafe extern "C" fn hipblasGemmEx(
    handle: hipblasHandle_t,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    a_type: c_int,
    lda: c_int,
    b: *const c_void,
    b_type: c_int,
    ldb: c_int,
    beta: *const c_void,
    c: *mut c_void,
    c_type: c_int,
    ldc: c_int,
    compute: c_int,
    _algo: c_int,
) -> hipblasStatus_t {
    let Ok((device, Object::Blas)) = registry::resolve("hipblasGemmEx", "BLAS handle", handle) else {
        return status::NOT_INITIALIZED;
    };
    let known = |dtype| matches!(dtype, HIP_R_32F | HIP_R_16F | HIP_R_16BF);
    let flags = [trans_a, trans_b].map(|op| matches!(op, HIPBLAS_OP_N | HIPBLAS_OP_T));
    if flags != [true, true] || ![a_type, b_type, c_type].into_iter().all(known) || a_type != b_type {
        return status::NOT_SUPPORTED;
    }
    let sizes = [m, n, k, lda, ldb, ldc].map(usize::try_from);
    let [Ok(m), Ok(n), Ok(k), Ok(lda), Ok(ldb), Ok(ldc)] = sizes else { return status::INVALID_VALUE };
    let transposed = (trans_a == HIPBLAS_OP_T, trans_b == HIPBLAS_OP_T);
    let matrix = |at: usize, dtype, rows, columns, stride| Matrix { at, dtype, rows, columns, stride };
    let (a_rows, a_columns) = if transposed.0 { (k, m) } else { (m, k) };
    let (b_rows, b_columns) = if transposed.1 { (n, k) } else { (k, n) };
    if lda < a_rows || ldb < b_rows || ldc < m || compute != HIPBLAS_COMPUTE_32F {
        return status::INVALID_VALUE;
    }
    // SAFETY: the caller's pointers to two floats of the host, by the function's contract.
    let (alpha, beta) = unsafe { (*alpha.cast::<f32>(), *beta.cast::<f32>()) };
    let product = Product {
        a: matrix(a as usize, a_type, a_rows, a_columns, lda),
        b: matrix(b as usize, b_type, b_rows, b_columns, ldb),
        c: matrix(c as usize, c_type, m, n, ldc),
        transposed,
        k,
        alpha,
        beta,
    };
    let mut state = device.lock();
    if state.enter("hipblasGemmEx").is_err() {
        return status::EXECUTION_FAILED;
    }
    let Some(&lane) = state.blas_lanes.get(&(handle as usize)) else {
        state.fault(
            super::fault::FaultKind::Forbidden,
            "hipblasGemmEx on the null stream: the handle was given no stream",
        );
        return status::NOT_INITIALIZED;
    };
    match state.submit(lane, Work::Product(product), &device.config) {
        Ok(()) => status::SUCCESS,
        Err(_) => status::EXECUTION_FAILED,
    }
}
