//! Dense products with the BLAS library.

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use super::api::{self, Blas, hipblasHandle_t, hipblasStatus_t};
use super::context::Context;
use super::error::HipError;
use super::stream::Stream;
use crate::device::Gemm;
use crate::tensor::DType;

/// The BLAS library on one stream.
#[derive(Debug)]
pub struct BlasHandle {
    blas: Blas,
    stream: Stream,
    /// The library's handle; one call at a time may use it.
    raw: Mutex<Handle>,
}

#[derive(Clone, Copy, Debug)]
struct Handle(hipblasHandle_t);

// SAFETY: the library accepts a handle from any thread, one at a time; the mutex ensures that.
unsafe impl Send for Handle {}

impl Context {
    /// Opens the BLAS library on `stream`; `None` if the platform has no such library, or none for this device
    /// ([`Context::blas_problem`]).
    ///
    /// # Errors
    /// The library exists but does not start.
    pub fn blas(&self, stream: &Stream) -> Result<Option<BlasHandle>, HipError> {
        let Some(blas) = self.api().blas.filter(|_| self.target().blas) else { return Ok(None) };
        self.runtime()?;
        let mut raw: hipblasHandle_t = std::ptr::null_mut();
        // SAFETY: `raw` is valid for a write.
        check("hipblasCreate", unsafe { (blas.hipblasCreate)(&mut raw) })?;
        let handle = BlasHandle { blas, stream: stream.clone(), raw: Mutex::new(Handle(raw)) };
        // SAFETY: handle and stream are alive, and the stream outlives the handle.
        check("hipblasSetStream", unsafe { (blas.hipblasSetStream)(raw, stream.raw()) })?;
        Ok(Some(handle))
    }
}

impl BlasHandle {
    /// Queues `C = A · Bᵀ + beta · C`; `a`, `b` and `c` are the device addresses of the matrices.
    ///
    /// # Errors
    /// An unsupported type, a size past 2³¹ − 1, or a refusal of the library.
    ///
    /// # Safety
    /// The matrices have the type and the sizes in `gemm`, and stay valid until an event recorded later on the handle's
    /// stream is done.
    pub unsafe fn gemm(&self, gemm: &Gemm, a: u64, b: u64, c: u64) -> Result<(), HipError> {
        let refuse = |text: String| HipError { text, ..HipError::blas("hipblasGemmEx", 3) };
        let size = |n: usize| c_int::try_from(n).map_err(|_| refuse(format!("a side of {n} elements")));
        let (m, n, k) = (size(gemm.m)?, size(gemm.n)?, size(gemm.k)?);
        let dtype = match gemm.dtype {
            DType::F32 => api::HIP_R_32F,
            DType::F16 => api::HIP_R_16F,
            DType::BF16 => api::HIP_R_16BF,
            other => return Err(refuse(format!("a product of {other} matrices"))),
        };
        let (alpha, beta) = (1.0_f32, if gemm.accumulate { 1.0_f32 } else { 0.0 });
        // The library is column-major, so it sees each of our matrices transposed and computes Cᵀ [n × m] = B [n × k] ·
        // Aᵀ [k × m]. It sees B as Bᵀ.
        let (trans_b, trans_a) = (api::HIPBLAS_OP_T, api::HIPBLAS_OP_N);
        self.stream.context().runtime()?;
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: guaranteed by the caller; alpha and beta are read before the call returns.
        let status = unsafe {
            (self.blas.hipblasGemmEx)(
                raw.0,
                trans_b,
                trans_a,
                n,
                m,
                k,
                (&raw const alpha).cast(),
                b as *const c_void,
                dtype,
                k,
                a as *const c_void,
                dtype,
                k,
                (&raw const beta).cast(),
                c as *mut c_void,
                api::HIP_R_32F,
                n,
                api::HIPBLAS_COMPUTE_32F,
                api::HIPBLAS_GEMM_DEFAULT,
            )
        };
        check("hipblasGemmEx", status)
    }
}

impl Drop for BlasHandle {
    fn drop(&mut self) {
        let raw = self.raw.get_mut().unwrap_or_else(PoisonError::into_inner).0;
        // The library frees its own memory on the current device, which must be this one.
        let result = self.stream.context().runtime().and_then(|_| {
            // SAFETY: made by `hipblasCreate`, destroyed once.
            check("hipblasDestroy", unsafe { (self.blas.hipblasDestroy)(raw) })
        });
        if let Err(error) = result {
            tracing::error!("{error}");
        }
    }
}

fn check(call: &'static str, status: hipblasStatus_t) -> Result<(), HipError> {
    if status == 0 { Ok(()) } else { Err(HipError::blas(call, status)) }
}
