//! The CUDA functions that the nvidia platform calls, as tables. Source: `cuda.h` and `cublas_api.h` of CUDA 12 and 13;
//! the names are those that the libraries export.
#![allow(non_snake_case, non_camel_case_types, reason = "CUDA's own names")]
#![allow(
    missing_docs,
    reason = "each field is the CUDA function of that name, described in CUDA's reference"
)]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use crate::hip::api::table;

/// `CUresult`; 0 is success.
pub type CUresult = c_int;
/// `CUdevice`.
pub type CUdevice = c_int;
/// `CUdeviceptr`.
pub type CUdeviceptr = u64;

pub const CU_DEVICE_ATTRIBUTE_WARP_SIZE: c_int = 10;
pub const CU_DEVICE_ATTRIBUTE_CLOCK_RATE: c_int = 13;
pub const CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: c_int = 16;
pub const CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT: c_int = 17;
pub const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: c_int = 75;
pub const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: c_int = 76;
pub const CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_int = 97;
pub const CU_FUNC_ATTRIBUTE_NUM_REGS: c_int = 4;
pub const CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
pub const CU_MEMHOSTALLOC_PORTABLE: c_uint = 1;

pub const CUBLAS_OP_N: c_int = 0;
pub const CUBLAS_OP_T: c_int = 1;
pub const CUBLAS_COMPUTE_32F: c_int = 68;
pub const CUBLAS_GEMM_DEFAULT: c_int = -1;

table! {
    /// The driver, `libcuda`.
    Driver {
        fn cuInit(flags: c_uint) -> CUresult;
        fn cuDriverGetVersion(version: *mut c_int) -> CUresult;
        fn cuGetErrorName(error: CUresult, name: *mut *const c_char) -> CUresult;
        fn cuDeviceGetCount(count: *mut c_int) -> CUresult;
        fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult;
        fn cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice) -> CUresult;
        fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: CUdevice) -> CUresult;
        fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: CUdevice) -> CUresult;
        fn cuCtxSetCurrent(context: *mut c_void) -> CUresult;
        fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> CUresult;
        fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult;
        fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> CUresult;
        fn cuMemFree_v2(address: CUdeviceptr) -> CUresult;
        fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint) -> CUresult;
        fn cuMemFreeHost(address: *mut c_void) -> CUresult;
        fn cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: *mut c_void) -> CUresult;
        fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: *mut c_void) -> CUresult;
        fn cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: *mut c_void) -> CUresult;
        fn cuMemsetD8Async(to: CUdeviceptr, value: u8, count: usize, stream: *mut c_void) -> CUresult;
        fn cuStreamCreateWithPriority(stream: *mut *mut c_void, flags: c_uint, priority: c_int) -> CUresult;
        fn cuStreamDestroy_v2(stream: *mut c_void) -> CUresult;
        fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: c_uint) -> CUresult;
        fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: c_int) -> CUresult;
        fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) -> CUresult;
        fn cuEventCreate(event: *mut *mut c_void, flags: c_uint) -> CUresult;
        fn cuEventDestroy_v2(event: *mut c_void) -> CUresult;
        fn cuEventRecord(event: *mut c_void, stream: *mut c_void) -> CUresult;
        fn cuEventQuery(event: *mut c_void) -> CUresult;
        fn cuEventElapsedTime(milliseconds: *mut f32, start: *mut c_void, end: *mut c_void) -> CUresult;
        fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> CUresult;
        fn cuModuleUnload(module: *mut c_void) -> CUresult;
        fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char) -> CUresult;
        fn cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: *mut c_void) -> CUresult;
        fn cuFuncSetAttribute(function: *mut c_void, attribute: c_int, value: c_int) -> CUresult;
        fn cuLaunchKernel(
            function: *mut c_void,
            grid_x: c_uint,
            grid_y: c_uint,
            grid_z: c_uint,
            block_x: c_uint,
            block_y: c_uint,
            block_z: c_uint,
            shared_bytes: c_uint,
            stream: *mut c_void,
            args: *mut *mut c_void,
            extra: *mut *mut c_void,
        ) -> CUresult;
        fn cuGraphInstantiateWithFlags(exec: *mut *mut c_void, graph: *mut c_void, flags: c_ulonglong) -> CUresult;
        fn cuGraphLaunch(exec: *mut c_void, stream: *mut c_void) -> CUresult;
        fn cuGraphDestroy(graph: *mut c_void) -> CUresult;
        fn cuGraphExecDestroy(exec: *mut c_void) -> CUresult;
    }
}

table! {
    /// Dense products, `libcublas`.
    Cublas {
        fn cublasCreate_v2(handle: *mut *mut c_void) -> c_int;
        fn cublasDestroy_v2(handle: *mut c_void) -> c_int;
        fn cublasSetStream_v2(handle: *mut c_void, stream: *mut c_void) -> c_int;
        fn cublasGemmEx(
            handle: *mut c_void,
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
        ) -> c_int;
    }
}

/// HIP's number for a driver's code. Most are the same. CUDA's codes from 909 on have other meanings in HIP, and
/// several of its faults map to one of HIP's.
pub fn to_hip(code: CUresult) -> c_int {
    match code {
        0..=5
        | 100
        | 101
        | 200
        | 201
        | 205
        | 206
        | 209
        | 214
        | 215
        | 217..=219
        | 300..=304
        | 400
        | 401
        | 500
        | 600
        | 700..=702
        | 704
        | 705
        | 708..=710
        | 712
        | 713
        | 719
        | 720
        | 801
        | 900..=908
        | 910 => code,
        // The library needs a newer driver; the code needs a newer one; the driver's two halves differ.
        36 | 222 | 803 | 804 => 35,
        // Another process has exclusive use of the device.
        46 => 101,
        // A stack error, an illegal instruction, a misaligned address, a wrong address space, a wrong counter.
        714..=718 => 719,
        // Not permitted, by the operating system or by the driver's settings.
        800 => 304,
        _ => 999,
    }
}

/// hipBLAS's number for a status of cuBLAS.
pub fn status_to_hip(status: c_int) -> c_int {
    match status {
        0 => 0,
        1 => 1,
        3 => 2,
        7 => 3,
        8 => 8,
        11 => 4,
        13 => 5,
        14 => 6,
        15 => 7,
        _ => 11,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_with_equal_meaning_keep_their_number() {
        for same in [0, 1, 2, 3, 100, 101, 209, 500, 600, 700, 719, 900, 901, 908] {
            assert_eq!(to_hip(same), same);
        }
        assert_eq!(to_hip(716), 719, "a misaligned address ends the context");
        assert_eq!(to_hip(803), 35, "a driver that does not fit its kernel module");
        // 911 is an external device's error in CUDA and a channel descriptor's in HIP.
        assert_eq!(to_hip(911), 999);
        assert_eq!([0, 1, 3, 7, 15, 16].map(status_to_hip), [0, 1, 2, 3, 7, 11]);
    }
}
