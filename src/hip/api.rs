//! The table: every HIP, hipRTC and hipBLAS function that rfgraph calls, under HIP's names and C types.
//!
//! A platform fills the table. No call waits for a whole device or takes the NULL stream, so the functions that would
//! are absent. The constants are those of HIP's headers; the nvidia platform translates its own. Source:
//! `hip_runtime_api.h`, `hiprtc.h` and `hipblas.h` of ROCm 5 to 7.
#![allow(non_snake_case, non_camel_case_types, non_upper_case_globals, reason = "HIP's own names")]
#![allow(missing_docs, reason = "each field is the HIP function of that name, described in HIP's reference")]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `hipError_t`; 0 is success.
pub type hipError_t = c_int;
/// `hiprtcResult`; 0 is success.
pub type hiprtcResult = c_int;
/// `hipblasStatus_t`; 0 is success.
pub type hipblasStatus_t = c_int;
/// A stream. Never null in rfgraph.
pub type hipStream_t = *mut c_void;
/// An event.
pub type hipEvent_t = *mut c_void;
/// A loaded code object.
pub type hipModule_t = *mut c_void;
/// A kernel of a module.
pub type hipFunction_t = *mut c_void;
/// A captured graph.
pub type hipGraph_t = *mut c_void;
/// A graph that can be launched.
pub type hipGraphExec_t = *mut c_void;
/// A program of the run-time compiler.
pub type hiprtcProgram = *mut c_void;
/// A handle of the BLAS library.
pub type hipblasHandle_t = *mut c_void;

pub const hipSuccess: hipError_t = 0;
pub const hipErrorInvalidValue: hipError_t = 1;
pub const hipErrorOutOfMemory: hipError_t = 2;
pub const hipErrorNotInitialized: hipError_t = 3;
pub const hipErrorNoDevice: hipError_t = 100;
pub const hipErrorInvalidDevice: hipError_t = 101;
pub const hipErrorInvalidImage: hipError_t = 200;
pub const hipErrorInvalidHandle: hipError_t = 400;
pub const hipErrorNotFound: hipError_t = 500;
pub const hipErrorNotReady: hipError_t = 600;
pub const hipErrorIllegalAddress: hipError_t = 700;
pub const hipErrorLaunchFailure: hipError_t = 719;
pub const hipErrorNotSupported: hipError_t = 801;
pub const hipErrorStreamCaptureUnsupported: hipError_t = 900;
pub const hipErrorStreamCaptureInvalidated: hipError_t = 901;
pub const hipErrorUnknown: hipError_t = 999;

/// `hipStreamNonBlocking`: the stream and the NULL stream do not wait for each other.
pub const hipStreamNonBlocking: c_uint = 1;
/// `hipEventDisableTiming`.
pub const hipEventDisableTiming: c_uint = 2;
pub const hipEventDefault: c_uint = 0;
pub const hipHostMallocDefault: c_uint = 0;
pub const hipMemcpyHostToDevice: c_int = 1;
pub const hipMemcpyDeviceToHost: c_int = 2;
pub const hipMemcpyDeviceToDevice: c_int = 3;
/// `hipStreamCaptureModeThreadLocal`: only calls of this thread can invalidate the capture.
pub const hipStreamCaptureModeThreadLocal: c_int = 1;

/// Device attributes, in HIP's numbering (the same in ROCm 5 to 7).
pub const hipDeviceAttributeClockRate: c_int = 5;
pub const hipDeviceAttributeKernelExecTimeout: c_int = 18;
pub const hipDeviceAttributeComputeCapabilityMajor: c_int = 23;
pub const hipDeviceAttributeMaxSharedMemoryPerBlock: c_int = 74;
pub const hipDeviceAttributeMultiprocessorCount: c_int = 63;
pub const hipDeviceAttributeWarpSize: c_int = 87;
/// AMD's only: compute units, where `hipDeviceAttributeMultiprocessorCount` counts pairs of them on RDNA.
pub const hipDeviceAttributePhysicalMultiProcessorCount: c_int = 10_015;

/// `HIPBLAS_OP_N`.
pub const HIPBLAS_OP_N: c_int = 111;
/// `HIPBLAS_OP_T`.
pub const HIPBLAS_OP_T: c_int = 112;
/// `hipDataType`, which hipBLAS takes since 2.0.
pub const HIP_R_32F: c_int = 0;
pub const HIP_R_16F: c_int = 2;
pub const HIP_R_16BF: c_int = 14;
/// `HIPBLAS_COMPUTE_32F`.
pub const HIPBLAS_COMPUTE_32F: c_int = 2;
/// `HIPBLAS_GEMM_DEFAULT`.
pub const HIPBLAS_GEMM_DEFAULT: c_int = 160;

/// Declares a table: a struct of function pointers, the function that fills it from a library, and the list of function
/// names.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $table { $(pub $name: unsafe extern "C" fn($($ty),*) -> $ret,)* }

        impl $table {
            /// The names of the functions.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Fills the table with the addresses that `resolve` gives for the names. Fails with the first name that
            /// has no address.
            ///
            /// # Safety
            /// `resolve` must give the address of a function with that name's C signature, and the function must stay
            /// loaded as long as the table is used.
            pub unsafe fn fill(
                mut resolve: impl FnMut(&'static str) -> Option<*const c_void>,
            ) -> Result<$table, &'static str> {
                Ok($table { $($name: {
                    let address = resolve(stringify!($name)).filter(|address| !address.is_null());
                    let address = address.ok_or(stringify!($name))?;
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        std::mem::transmute::<*const c_void, unsafe extern "C" fn($($ty),*) -> $ret>(address)
                    }
                },)* })
            }
        }
    };
}

pub(super) use table;

table! {
    /// The runtime.
    Runtime {
        fn hipInit(flags: c_uint) -> hipError_t;
        fn hipDriverGetVersion(version: *mut c_int) -> hipError_t;
        fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t;
        fn hipGetDeviceCount(count: *mut c_int) -> hipError_t;
        fn hipSetDevice(device: c_int) -> hipError_t;
        fn hipDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> hipError_t;
        fn hipDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> hipError_t;
        fn hipMemGetInfo(free: *mut usize, total: *mut usize) -> hipError_t;
        fn hipMalloc(address: *mut *mut c_void, bytes: usize) -> hipError_t;
        fn hipFree(address: *mut c_void) -> hipError_t;
        fn hipHostMalloc(address: *mut *mut c_void, bytes: usize, flags: c_uint) -> hipError_t;
        fn hipHostFree(address: *mut c_void) -> hipError_t;
        fn hipMemcpyAsync(to: *mut c_void, from: *const c_void, bytes: usize, kind: c_int, stream: hipStream_t) -> hipError_t;
        fn hipMemsetAsync(to: *mut c_void, value: c_int, bytes: usize, stream: hipStream_t) -> hipError_t;
        fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> hipError_t;
        fn hipStreamCreateWithPriority(stream: *mut hipStream_t, flags: c_uint, priority: c_int) -> hipError_t;
        fn hipStreamDestroy(stream: hipStream_t) -> hipError_t;
        fn hipStreamWaitEvent(stream: hipStream_t, event: hipEvent_t, flags: c_uint) -> hipError_t;
        fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) -> hipError_t;
        fn hipEventDestroy(event: hipEvent_t) -> hipError_t;
        fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) -> hipError_t;
        fn hipEventQuery(event: hipEvent_t) -> hipError_t;
        fn hipEventElapsedTime(milliseconds: *mut f32, start: hipEvent_t, end: hipEvent_t) -> hipError_t;
        fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) -> hipError_t;
        fn hipModuleUnload(module: hipModule_t) -> hipError_t;
        fn hipModuleGetFunction(function: *mut hipFunction_t, module: hipModule_t, name: *const c_char) -> hipError_t;
        fn hipModuleLaunchKernel(
            function: hipFunction_t,
            grid_x: c_uint,
            grid_y: c_uint,
            grid_z: c_uint,
            block_x: c_uint,
            block_y: c_uint,
            block_z: c_uint,
            shared_bytes: c_uint,
            stream: hipStream_t,
            args: *mut *mut c_void,
            extra: *mut *mut c_void,
        ) -> hipError_t;
        fn hipStreamBeginCapture(stream: hipStream_t, mode: c_int) -> hipError_t;
        fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) -> hipError_t;
        fn hipGraphDestroy(graph: hipGraph_t) -> hipError_t;
        fn hipGraphInstantiate(
            exec: *mut hipGraphExec_t,
            graph: hipGraph_t,
            error_node: *mut *mut c_void,
            log: *mut c_char,
            log_len: usize,
        ) -> hipError_t;
        fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t;
        fn hipGraphExecDestroy(exec: hipGraphExec_t) -> hipError_t;
    }
}

table! {
    /// The run-time compiler.
    Rtc {
        fn hiprtcVersion(major: *mut c_int, minor: *mut c_int) -> hiprtcResult;
        fn hiprtcCreateProgram(
            program: *mut hiprtcProgram,
            source: *const c_char,
            name: *const c_char,
            n_headers: c_int,
            headers: *const *const c_char,
            header_names: *const *const c_char,
        ) -> hiprtcResult;
        fn hiprtcCompileProgram(program: hiprtcProgram, n_options: c_int, options: *const *const c_char) -> hiprtcResult;
        fn hiprtcGetProgramLogSize(program: hiprtcProgram, bytes: *mut usize) -> hiprtcResult;
        fn hiprtcGetProgramLog(program: hiprtcProgram, log: *mut c_char) -> hiprtcResult;
        fn hiprtcGetCodeSize(program: hiprtcProgram, bytes: *mut usize) -> hiprtcResult;
        fn hiprtcGetCode(program: hiprtcProgram, code: *mut c_char) -> hiprtcResult;
        fn hiprtcDestroyProgram(program: *mut hiprtcProgram) -> hiprtcResult;
    }
}

table! {
    /// Dense products.
    Blas {
        fn hipblasCreate(handle: *mut hipblasHandle_t) -> hipblasStatus_t;
        fn hipblasDestroy(handle: hipblasHandle_t) -> hipblasStatus_t;
        fn hipblasSetStream(handle: hipblasHandle_t, stream: hipStream_t) -> hipblasStatus_t;
        fn hipblasGemmEx(
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
            algo: c_int,
        ) -> hipblasStatus_t;
    }
}

/// A platform's functions.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    pub runtime: Runtime,
    pub rtc: Rtc,
    /// `None` if the platform has no BLAS library.
    pub blas: Option<Blas>,
    /// Writes the target that the device's code is compiled for (`gfx1100`, `sm_90`), zero-terminated, into `name`. Not
    /// a function of the table, as the platforms report it in different ways.
    pub arch: unsafe extern "C" fn(name: *mut c_char, len: c_int, device: c_int) -> hipError_t,
    /// Raises the limit of a kernel's dynamic shared memory; a no-op on platforms without such a limit.
    pub allow_shared: unsafe extern "C" fn(function: hipFunction_t, bytes: c_uint) -> hipError_t,
    /// `Ok` if the BLAS library, where there is one, can multiply on an architecture (without features); otherwise the
    /// reason why not.
    pub blas_serves: fn(arch: &str) -> Result<(), String>,
}
