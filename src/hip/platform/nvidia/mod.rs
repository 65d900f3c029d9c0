//! CUDA 12 and 13 under HIP's names: does at run time what HIP's own headers do at compile time.
//!
//! The driver implements all of the runtime's functions, on each device's primary context; nvrtc and cuBLAS have the
//! same signatures as hipRTC and hipBLAS. Differing numbers are translated.
#![allow(non_snake_case, reason = "HIP's own names")]

pub mod cuda;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::sync::OnceLock;

use self::cuda::{CUdevice, CUresult, Cublas, Driver, status_to_hip, to_hip};
use super::library::{Search, sonames};
use super::{LoadError, PlatformKind, visible, visible_devices};
use crate::hip::api::{
    self, Api, Blas, Rtc, Runtime, hipError_t, hipEvent_t, hipFunction_t, hipGraph_t, hipGraphExec_t,
    hipModule_t, hipStream_t, hipblasHandle_t, hipblasStatus_t,
};

const DRIVER: &str = "NVIDIA's driver";
const COMPILER: &str = "CUDA's run-time compiler, nvrtc";
const BLAS: &str = "cuBLAS";

/// The versions of CUDA's libraries, the newest first.
const VERSIONS: [u32; 2] = [13, 12];

/// The libraries behind the functions of this file, opened once.
static CUDA: OnceLock<Cuda> = OnceLock::new();

#[derive(Debug)]
struct Cuda {
    driver: Driver,
    rtc: Rtc,
    blas: Option<Cublas>,
    devices: OnceLock<Vec<Device>>,
}

#[derive(Debug)]
struct Device {
    handle: CUdevice,
    /// The primary context, retained once and kept for the rest of the process.
    context: OnceLock<Shared>,
}

#[derive(Clone, Copy, Debug)]
struct Shared(*mut c_void);

// SAFETY: the driver accepts a context from any thread.
unsafe impl Send for Shared {}
// SAFETY: the driver accepts a context from any thread.
unsafe impl Sync for Shared {}

/// Opens CUDA's libraries and fills the table; the first call of a process selects the libraries.
///
/// # Errors
/// The driver or the compiler is missing, cannot be loaded, or lacks a function.
pub(super) fn load(search: &Search) -> Result<Api, LoadError> {
    let driver = search.load(DRIVER, &driver_names(), |library| {
        // Both versions of this function have the same signature; CUDA 13 declares only the second.
        let second =
            |name| if name == "cuEventElapsedTime" { library.address("cuEventElapsedTime_v2") } else { None };
        // SAFETY: the functions of that name have these signatures since CUDA 12, and stay loaded.
        unsafe { Driver::fill(|name| second(name).or_else(|| library.address(name))) }
    })?;
    // An older driver cannot load the code of a newer compiler.
    let mut version = 0;
    // SAFETY: `version` is valid for a write; the call needs no `cuInit`.
    let known = unsafe { (driver.cuDriverGetVersion)(&mut version) } == 0;
    let versions = if known && version < 13_000 { [12, 13] } else { VERSIONS };
    let rtc = load_compiler(search, &versions)?;
    let blas = search.load(BLAS, &sonames("cublas", &versions), |library| {
        // SAFETY: the functions of that name have these signatures since CUDA 12, and stay loaded.
        unsafe { Cublas::fill(|name| library.address(name)) }
    });
    let blas =
        blas.inspect_err(|error| tracing::debug!("{error}; rfgraph's own kernels multiply instead")).ok();
    let cuda = CUDA.get_or_init(|| Cuda { driver, rtc, blas, devices: OnceLock::new() });
    Ok(cuda.api())
}

/// The libraries by their display names, each with its file names.
pub(super) fn libraries() -> [(&'static str, Vec<String>); 3] {
    let of = |stem| sonames(stem, &VERSIONS);
    [(DRIVER, driver_names()), (COMPILER, of("nvrtc")), (BLAS, of("cublas"))]
}

fn driver_names() -> Vec<String> {
    vec!["libcuda.so.1".into(), "libcuda.so".into()]
}

/// The run-time compiler only, which needs neither a GPU nor a driver.
///
/// # Errors
/// The compiler is missing, cannot be loaded, or lacks a function.
pub fn compiler() -> Result<Rtc, LoadError> {
    load_compiler(&Search::of(PlatformKind::Nvidia), &VERSIONS)
}

fn load_compiler(search: &Search, versions: &[u32]) -> Result<Rtc, LoadError> {
    search.load(COMPILER, &sonames("nvrtc", versions), |library| {
        // SAFETY: each function of nvrtc has the signature of hipRTC's, and stays loaded. hipRTC's code is nvrtc's
        // cubin.
        unsafe {
            Rtc::fill(|name| match name {
                "hiprtcGetCode" => library.address("nvrtcGetCUBIN"),
                "hiprtcGetCodeSize" => library.address("nvrtcGetCUBINSize"),
                name => library.address(&name.replacen("hiprtc", "nvrtc", 1)),
            })
        }
    })
}

impl Cuda {
    fn api(&self) -> Api {
        let runtime = Runtime {
            hipInit,
            hipDriverGetVersion,
            hipRuntimeGetVersion,
            hipGetDeviceCount,
            hipSetDevice,
            hipDeviceGetName,
            hipDeviceGetAttribute,
            hipMemGetInfo,
            hipMalloc,
            hipFree,
            hipHostMalloc,
            hipHostFree,
            hipMemcpyAsync,
            hipMemsetAsync,
            hipDeviceGetStreamPriorityRange,
            hipStreamCreateWithPriority,
            hipStreamDestroy,
            hipStreamWaitEvent,
            hipEventCreateWithFlags,
            hipEventDestroy,
            hipEventRecord,
            hipEventQuery,
            hipEventElapsedTime,
            hipModuleLoadData,
            hipModuleUnload,
            hipModuleGetFunction,
            hipModuleLaunchKernel,
            hipStreamBeginCapture,
            hipStreamEndCapture,
            hipGraphDestroy,
            hipGraphInstantiate,
            hipGraphLaunch,
            hipGraphExecDestroy,
        };
        let blas = Blas { hipblasCreate, hipblasDestroy, hipblasSetStream, hipblasGemmEx };
        let blas = self.blas.map(|_| blas);
        Api { runtime, rtc: self.rtc, blas, arch, allow_shared, blas_serves: |_| Ok(()) }
    }

    /// The visible devices, in the user's order.
    fn devices(&self) -> Result<&[Device], hipError_t> {
        if let Some(devices) = self.devices.get() {
            return Ok(devices);
        }
        let mut count = 0;
        // SAFETY: takes no pointer.
        self.check(unsafe { (self.driver.cuInit)(0) })?;
        // SAFETY: `count` is valid for a write.
        self.check(unsafe { (self.driver.cuDeviceGetCount)(&mut count) })?;
        let mut devices = Vec::new();
        for ordinal in visible(count.try_into().unwrap_or(0), visible_devices().as_deref()) {
            let mut handle = 0;
            // SAFETY: `handle` is valid for a write.
            self.check(unsafe { (self.driver.cuDeviceGet)(&mut handle, ordinal as c_int) })?;
            devices.push(Device { handle, context: OnceLock::new() });
        }
        Ok(self.devices.get_or_init(|| devices))
    }

    fn device(&self, ordinal: c_int) -> Result<&Device, hipError_t> {
        let device = usize::try_from(ordinal).ok().zip(Some(self.devices()?));
        device.and_then(|(ordinal, devices)| devices.get(ordinal)).ok_or(api::hipErrorInvalidDevice)
    }

    fn attribute(&self, device: CUdevice, attribute: c_int) -> Result<c_int, hipError_t> {
        let mut value = 0;
        // SAFETY: `value` is valid for a write.
        self.check(unsafe { (self.driver.cuDeviceGetAttribute)(&mut value, attribute, device) })?;
        Ok(value)
    }

    /// HIP's code for the driver's. A code without a counterpart in HIP is logged under its own name.
    fn check(&self, code: CUresult) -> Result<(), hipError_t> {
        let hip = to_hip(code);
        if hip == api::hipSuccess {
            return Ok(());
        }
        if hip != code {
            let mut name = std::ptr::null();
            // SAFETY: `name` is valid for a write; it is set to a constant of the library.
            let named = unsafe { (self.driver.cuGetErrorName)(code, &mut name) } == 0 && !name.is_null();
            // SAFETY: `name` was set to a constant of the library, which ends with a zero.
            let name = if named { unsafe { CStr::from_ptr(name) }.to_string_lossy() } else { "?".into() };
            tracing::warn!("CUDA says {name} ({code}), which is given as HIP's error {hip}");
        }
        Err(hip)
    }
}

/// Runs `call` with the open libraries and returns HIP's code of its result.
fn with(call: impl FnOnce(&Cuda) -> Result<(), hipError_t>) -> hipError_t {
    match CUDA.get() {
        Some(cuda) => call(cuda).err().unwrap_or(api::hipSuccess),
        None => api::hipErrorNotInitialized,
    }
}

/// Functions whose CUDA counterpart takes the same arguments, in the order given.
macro_rules! twins {
    ($(fn $hip:ident($($arg:ident: $ty:ty),* $(,)?) = $cuda:ident($($pass:expr),* $(,)?);)*) => {
        $(unsafe extern "C" fn $hip($($arg: $ty),*) -> hipError_t {
            // SAFETY: guaranteed by the caller, with the same contract for both functions.
            with(|cuda| cuda.check(unsafe { (cuda.driver.$cuda)($($pass),*) }))
        })*
    };
}

twins! {
    fn hipDriverGetVersion(version: *mut c_int) = cuDriverGetVersion(version);
    fn hipMemGetInfo(free: *mut usize, total: *mut usize) = cuMemGetInfo_v2(free, total);
    fn hipMalloc(address: *mut *mut c_void, bytes: usize) = cuMemAlloc_v2(address.cast(), bytes);
    fn hipFree(address: *mut c_void) = cuMemFree_v2(address as u64);
    fn hipHostMalloc(address: *mut *mut c_void, bytes: usize, _flags: c_uint)
        = cuMemHostAlloc(address, bytes, cuda::CU_MEMHOSTALLOC_PORTABLE);
    fn hipHostFree(address: *mut c_void) = cuMemFreeHost(address);
    fn hipMemsetAsync(to: *mut c_void, value: c_int, bytes: usize, stream: hipStream_t)
        = cuMemsetD8Async(to as u64, value as u8, bytes, stream);
    fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int)
        = cuCtxGetStreamPriorityRange(least, greatest);
    fn hipStreamCreateWithPriority(stream: *mut hipStream_t, flags: c_uint, priority: c_int)
        = cuStreamCreateWithPriority(stream, flags, priority);
    fn hipStreamDestroy(stream: hipStream_t) = cuStreamDestroy_v2(stream);
    fn hipStreamWaitEvent(stream: hipStream_t, event: hipEvent_t, flags: c_uint)
        = cuStreamWaitEvent(stream, event, flags);
    fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) = cuEventCreate(event, flags);
    fn hipEventDestroy(event: hipEvent_t) = cuEventDestroy_v2(event);
    fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) = cuEventRecord(event, stream);
    fn hipEventQuery(event: hipEvent_t) = cuEventQuery(event);
    fn hipEventElapsedTime(milliseconds: *mut f32, start: hipEvent_t, end: hipEvent_t)
        = cuEventElapsedTime(milliseconds, start, end);
    fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) = cuModuleLoadData(module, image);
    fn hipModuleUnload(module: hipModule_t) = cuModuleUnload(module);
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
    ) = cuLaunchKernel(
        function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, args, extra,
    );
    fn hipStreamBeginCapture(stream: hipStream_t, mode: c_int) = cuStreamBeginCapture_v2(stream, mode);
    fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) = cuStreamEndCapture(stream, graph);
    fn hipGraphDestroy(graph: hipGraph_t) = cuGraphDestroy(graph);
    fn hipGraphInstantiate(
        exec: *mut hipGraphExec_t,
        graph: hipGraph_t,
        _error_node: *mut *mut c_void,
        _log: *mut c_char,
        _log_len: usize,
    ) = cuGraphInstantiateWithFlags(exec, graph, 0);
    fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) = cuGraphLaunch(exec, stream);
    fn hipGraphExecDestroy(exec: hipGraphExec_t) = cuGraphExecDestroy(exec);
    fn allow_shared(function: hipFunction_t, bytes: c_uint) = cuFuncSetAttribute(
        function,
        cuda::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
        c_int::try_from(bytes).unwrap_or(c_int::MAX),
    );
}

unsafe extern "C" fn hipInit(_flags: c_uint) -> hipError_t {
    with(|cuda| cuda.devices().map(|_| ()))
}

/// The runtime is the driver on this platform; the version is the compiler's.
unsafe extern "C" fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t {
    with(|cuda| {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both are valid for a write.
        if unsafe { (cuda.rtc.hiprtcVersion)(&mut major, &mut minor) } != 0 {
            return Err(api::hipErrorUnknown);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { version.write(major * 1000 + minor * 10) };
        Ok(())
    })
}

unsafe extern "C" fn hipGetDeviceCount(count: *mut c_int) -> hipError_t {
    with(|cuda| {
        let n = cuda.devices()?.len();
        // SAFETY: guaranteed by the caller.
        unsafe { count.write(n as c_int) };
        if n == 0 { Err(api::hipErrorNoDevice) } else { Ok(()) }
    })
}

unsafe extern "C" fn hipSetDevice(device: c_int) -> hipError_t {
    with(|cuda| {
        let device = cuda.device(device)?;
        let context = match device.context.get() {
            Some(context) => *context,
            None => {
                let mut context = std::ptr::null_mut();
                // SAFETY: `context` is valid for a write. Retaining it twice returns the same context.
                cuda.check(unsafe { (cuda.driver.cuDevicePrimaryCtxRetain)(&mut context, device.handle) })?;
                *device.context.get_or_init(|| Shared(context))
            }
        };
        // SAFETY: the context is retained for the rest of the process.
        cuda.check(unsafe { (cuda.driver.cuCtxSetCurrent)(context.0) })
    })
}

unsafe extern "C" fn hipDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> hipError_t {
    with(|cuda| {
        let handle = cuda.device(device)?.handle;
        // SAFETY: guaranteed by the caller.
        cuda.check(unsafe { (cuda.driver.cuDeviceGetName)(name, len, handle) })
    })
}

unsafe extern "C" fn hipDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> hipError_t {
    with(|cuda| {
        let attribute = match attribute {
            api::hipDeviceAttributeComputeCapabilityMajor => {
                cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
            }
            // The limit that `allow_shared` can raise a kernel to, not the default limit.
            api::hipDeviceAttributeMaxSharedMemoryPerBlock => {
                cuda::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
            }
            api::hipDeviceAttributeMultiprocessorCount => cuda::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            api::hipDeviceAttributeWarpSize => cuda::CU_DEVICE_ATTRIBUTE_WARP_SIZE,
            api::hipDeviceAttributeClockRate => cuda::CU_DEVICE_ATTRIBUTE_CLOCK_RATE,
            api::hipDeviceAttributeKernelExecTimeout => cuda::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT,
            _ => return Err(api::hipErrorInvalidValue),
        };
        let answer = cuda.attribute(cuda.device(device)?.handle, attribute)?;
        // SAFETY: guaranteed by the caller.
        unsafe { value.write(answer) };
        Ok(())
    })
}

/// Writes the target, such as `sm_90`.
unsafe extern "C" fn arch(name: *mut c_char, len: c_int, device: c_int) -> hipError_t {
    with(|cuda| {
        let handle = cuda.device(device)?.handle;
        let major = cuda.attribute(handle, cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = cuda.attribute(handle, cuda::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let len = usize::try_from(len).map_err(|_| api::hipErrorInvalidValue)?;
        // SAFETY: the caller's buffer has `len` bytes, which are initialised with zeros before they are borrowed.
        let mut buffer = unsafe {
            name.write_bytes(0, len);
            std::slice::from_raw_parts_mut(name.cast::<u8>(), len)
        };
        write!(buffer, "sm_{major}{minor}\0").map_err(|_| api::hipErrorInvalidValue)
    })
}

unsafe extern "C" fn hipMemcpyAsync(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    kind: c_int,
    stream: hipStream_t,
) -> hipError_t {
    with(|cuda| {
        let driver = &cuda.driver;
        // SAFETY: guaranteed by the caller.
        cuda.check(unsafe {
            match kind {
                api::hipMemcpyHostToDevice => (driver.cuMemcpyHtoDAsync_v2)(to as u64, from, bytes, stream),
                api::hipMemcpyDeviceToHost => (driver.cuMemcpyDtoHAsync_v2)(to, from as u64, bytes, stream),
                api::hipMemcpyDeviceToDevice => {
                    (driver.cuMemcpyDtoDAsync_v2)(to as u64, from as u64, bytes, stream)
                }
                _ => return Err(api::hipErrorInvalidValue),
            }
        })
    })
}

unsafe extern "C" fn hipModuleGetFunction(
    function: *mut hipFunction_t,
    module: hipModule_t,
    name: *const c_char,
) -> hipError_t {
    with(|cuda| {
        // SAFETY: guaranteed by the caller.
        cuda.check(unsafe { (cuda.driver.cuModuleGetFunction)(function, module, name) })?;
        // The driver loads a kernel on first use, and waits for the device then. Reading an attribute loads it now,
        // before anything runs or is captured.
        let mut registers = 0;
        // SAFETY: the function was just found, and `registers` is valid for a write.
        cuda.check(unsafe {
            (cuda.driver.cuFuncGetAttribute)(&mut registers, cuda::CU_FUNC_ATTRIBUTE_NUM_REGS, *function)
        })
    })
}

/// Runs `call` with cuBLAS and returns hipBLAS's number of its status.
fn with_blas(call: impl FnOnce(&Cublas) -> c_int) -> hipblasStatus_t {
    match CUDA.get().and_then(|cuda| cuda.blas.as_ref()) {
        Some(blas) => status_to_hip(call(blas)),
        None => status_to_hip(1),
    }
}

unsafe extern "C" fn hipblasCreate(handle: *mut hipblasHandle_t) -> hipblasStatus_t {
    // SAFETY: guaranteed by the caller.
    with_blas(|blas| unsafe { (blas.cublasCreate_v2)(handle) })
}

unsafe extern "C" fn hipblasDestroy(handle: hipblasHandle_t) -> hipblasStatus_t {
    // SAFETY: guaranteed by the caller.
    with_blas(|blas| unsafe { (blas.cublasDestroy_v2)(handle) })
}

unsafe extern "C" fn hipblasSetStream(handle: hipblasHandle_t, stream: hipStream_t) -> hipblasStatus_t {
    // SAFETY: guaranteed by the caller.
    with_blas(|blas| unsafe { (blas.cublasSetStream_v2)(handle, stream) })
}

/// Types have the same numbers in both libraries; operations, computation and algorithm do not.
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
    algo: c_int,
) -> hipblasStatus_t {
    let operation = |op| match op {
        api::HIPBLAS_OP_N => Some(cuda::CUBLAS_OP_N),
        api::HIPBLAS_OP_T => Some(cuda::CUBLAS_OP_T),
        _ => None,
    };
    let (Some(trans_a), Some(trans_b)) = (operation(trans_a), operation(trans_b)) else {
        return status_to_hip(7);
    };
    if compute != api::HIPBLAS_COMPUTE_32F || algo != api::HIPBLAS_GEMM_DEFAULT {
        return status_to_hip(15);
    }
    let (compute, algo) = (cuda::CUBLAS_COMPUTE_32F, cuda::CUBLAS_GEMM_DEFAULT);
    // SAFETY: guaranteed by the caller.
    with_blas(|blas| unsafe {
        (blas.cublasGemmEx)(
            handle, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
            compute, algo,
        )
    })
}
