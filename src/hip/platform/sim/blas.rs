//! Dense products on the simulated device: plain loops, queued like a kernel.
#![allow(non_snake_case, reason = "HIP's own names")]

use std::ffi::{c_int, c_void};

use super::product::{Matrix, Product};
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
