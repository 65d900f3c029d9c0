//! ROCm 5, 6 and 7: the table's functions are the libraries' own, under the same names.
//!
//! The versions differ in three ways: the run-time compiler is a separate library or part of the runtime, the
//! properties of a device are a struct with one of two layouts, and products have one of two signatures.

mod rocblas;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use self::rocblas::Files;
use super::library::{Opened, Search, sonames};
use super::{LoadError, PlatformKind};
use crate::hip::api::{self, Api, Blas, Rtc, Runtime, hipError_t, hipblasHandle_t, hipblasStatus_t};

const RUNTIME: &str = "ROCm's HIP runtime";
const COMPILER: &str = "ROCm's run-time compiler";
const BLAS: &str = "hipBLAS";

/// `HIPBLAS_ATOMICS_NOT_ALLOWED` of `hipblas.h`.
const ATOMICS_NOT_ALLOWED: c_int = 0;

type GetProperties = unsafe extern "C" fn(*mut c_void, c_int) -> hipError_t;
type CreateHandle = unsafe extern "C" fn(*mut hipblasHandle_t) -> hipblasStatus_t;
type SetAtomics = unsafe extern "C" fn(hipblasHandle_t, c_int) -> hipblasStatus_t;

/// Functions that this file's own table entries need. The table's libraries are opened once.
static EXTRA: OnceLock<Extra> = OnceLock::new();

#[derive(Debug)]
struct Extra {
    /// `hipGetDevicePropertiesR0600`, since ROCm 6.
    properties_r0600: Option<GetProperties>,
    /// `hipGetDeviceProperties`: the older layout, in every version.
    properties: Option<GetProperties>,
    create_handle: Option<CreateHandle>,
    set_atomics: Option<SetAtomics>,
    blas_files: Files,
}

/// Opens ROCm's libraries and fills the table; the first call of a process selects the libraries.
///
/// # Errors
/// The runtime or its compiler is missing, cannot be loaded, or lacks a function.
pub(super) fn load(search: &Search) -> Result<Api, LoadError> {
    let (runtime_library, runtime) = search.load(RUNTIME, &runtime_names(), |library| {
        // SAFETY: the functions of that name have these signatures in ROCm 5 to 7, and stay loaded.
        unsafe { Runtime::fill(|name| library.address(name)) }.map(|runtime| (library.clone(), runtime))
    })?;
    let rtc = compiler_beside(search, Some(&runtime_library))?;
    let blas = match load_blas(search) {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::debug!("{error}; rfgraph's own kernels multiply instead");
            None
        }
    };
    // SAFETY: `hipGetDeviceProperties` in either version takes a struct to fill and a device.
    let properties = |name| unsafe {
        runtime_library.address(name).map(|at| std::mem::transmute::<*const c_void, GetProperties>(at))
    };
    let extra = Extra {
        properties_r0600: properties("hipGetDevicePropertiesR0600"),
        properties: properties("hipGetDeviceProperties"),
        create_handle: blas.as_ref().map(|(blas, _)| blas.hipblasCreate),
        set_atomics: blas.as_ref().and_then(|(_, set_atomics)| *set_atomics),
        // hipBLAS has just loaded rocBLAS, if there is one.
        blas_files: Files::of_process(),
    };
    EXTRA.get_or_init(|| extra);
    let blas = blas.map(|(blas, _)| Blas { hipblasCreate: create_handle, ..blas });
    Ok(Api { runtime, rtc, blas, arch, allow_shared, blas_serves })
}

/// The run-time compiler only, which needs neither a GPU nor a driver.
///
/// # Errors
/// The compiler is missing, cannot be loaded, or lacks a function.
pub fn compiler() -> Result<Rtc, LoadError> {
    compiler_beside(&Search::of(PlatformKind::Amd), None)
}

/// The libraries by their display names, each with its file names.
pub(super) fn libraries() -> [(&'static str, Vec<String>); 3] {
    [(RUNTIME, runtime_names()), (COMPILER, compiler_names()), (BLAS, blas_names())]
}

/// The compiler's own library; in some versions the runtime has its functions.
fn compiler_names() -> Vec<String> {
    sonames("hiprtc", &[7, 6, 5])
}

fn blas_names() -> Vec<String> {
    sonames("hipblas", &[3, 2, 1, 0])
}

fn runtime_names() -> Vec<String> {
    sonames("amdhip64", &[7, 6, 5])
}

/// The compiler that belongs to a runtime: the library of the same version, else the runtime itself (before ROCm 7 it
/// has the compiler's functions, and in some packages only it has them), else any.
fn compiler_beside(search: &Search, runtime: Option<&Opened>) -> Result<Rtc, LoadError> {
    let fill = |library: &Opened| {
        // SAFETY: the functions of that name have these signatures in ROCm 5 to 7, and stay loaded.
        unsafe { Rtc::fill(|name| library.address(name)) }
    };
    if let Some(runtime) = runtime {
        let mut beside = search.clone();
        beside.folders.splice(0..0, runtime.path.parent().map(Into::into));
        let name = match runtime.version() {
            Some(version) => format!("libhiprtc.so.{version}"),
            None => "libhiprtc.so".into(),
        };
        if let Ok(rtc) = beside.load(COMPILER, &[name], fill) {
            return Ok(rtc);
        }
        if let Ok(rtc) = fill(runtime) {
            return Ok(rtc);
        }
    }
    let separate = search.load(COMPILER, &compiler_names(), fill);
    separate.or_else(|error| search.load(COMPILER, &runtime_names(), fill).map_err(|_| error))
}

fn load_blas(search: &Search) -> Result<(Blas, Option<SetAtomics>), LoadError> {
    search.load(BLAS, &blas_names(), |library| {
        // The signature with `hipDataType` and `hipblasComputeType_t` is `hipblasGemmEx_v2` in hipBLAS 2, and
        // `hipblasGemmEx` since 3, where `_v2` was removed. Before 2, that name used other numbers for its types;
        // `hipblasSetMathMode`, added in 2.1, distinguishes 3 from those.
        let gemm = library
            .address("hipblasGemmEx_v2")
            .or_else(|| library.address("hipblasSetMathMode").and_then(|_| library.address("hipblasGemmEx")));
        let resolve = |name| if name == "hipblasGemmEx" { gemm } else { library.address(name) };
        // SAFETY: the functions of that name have these signatures, the product's by the choice above.
        let blas = unsafe { Blas::fill(resolve) }?;
        let set_atomics = library.address("hipblasSetAtomicsMode");
        // SAFETY: it takes a handle and a `hipblasAtomicsMode_t` in every version that exports it.
        let set_atomics =
            set_atomics.map(|at| unsafe { std::mem::transmute::<*const c_void, SetAtomics>(at) });
        Ok((blas, set_atomics))
    })
}

/// Makes a handle of hipBLAS whose products add without atomics: the same sums and the same bits every time.
unsafe extern "C" fn create_handle(handle: *mut hipblasHandle_t) -> hipblasStatus_t {
    let extra = EXTRA.get();
    let Some(create) = extra.and_then(|extra| extra.create_handle) else { return 1 };
    // SAFETY: guaranteed by the caller.
    let status = unsafe { create(handle) };
    if status == 0
        && let Some(set_atomics) = extra.and_then(|extra| extra.set_atomics)
    {
        // If the mode cannot be set, the library uses no atomics.
        // SAFETY: the handle was just made.
        let _ = unsafe { set_atomics(*handle, ATOMICS_NOT_ALLOWED) };
    }
    status
}

/// More than any version's `hipDeviceProp_t` (792 and 1472 bytes), so that none is written past the end.
const PROPERTIES_BYTES: usize = 16 << 10;
/// The offset of `gcnArchName` in `hipDeviceProp_tR0600`, and in the older struct: `hip_runtime_api.h` of 6.0, 5.2.
const ARCH_OFFSET_R0600: usize = 1160;
const ARCH_OFFSET: usize = 396;

#[repr(align(16))]
struct Properties([u8; PROPERTIES_BYTES]);

/// `gcnArchName`, features included.
unsafe extern "C" fn arch(name: *mut c_char, len: c_int, device: c_int) -> hipError_t {
    let Some(extra) = EXTRA.get() else { return api::hipErrorNotInitialized };
    let layouts = [(extra.properties_r0600, ARCH_OFFSET_R0600), (extra.properties, ARCH_OFFSET)];
    let mut answer = api::hipErrorNotSupported;
    for (ask, offset) in layouts {
        let Some(ask) = ask else { continue };
        let mut properties = Properties([0; PROPERTIES_BYTES]);
        // SAFETY: the struct is larger than any version's, and aligned.
        let code = unsafe { ask((&raw mut properties).cast(), device) };
        if code != api::hipSuccess {
            answer = code;
            continue;
        }
        if let Some(found) = arch_in(&properties.0, offset)
            && let Ok(len) = usize::try_from(len)
            && found.len() < len
        {
            // SAFETY: the caller's buffer has `len` bytes, which the name and its zero fit.
            unsafe {
                name.copy_from_nonoverlapping(found.as_ptr().cast(), found.len());
                name.add(found.len()).write(0);
            }
            return api::hipSuccess;
        }
        answer = api::hipErrorNotSupported;
    }
    answer
}

/// The architecture's name at an offset, if a valid one is there: another layout would have other content.
fn arch_in(properties: &[u8], offset: usize) -> Option<&[u8]> {
    let name = CStr::from_bytes_until_nul(properties.get(offset..)?).ok()?.to_bytes();
    name.starts_with(b"gfx").then_some(name)
}

/// Looks for rocBLAS's files for the architecture.
fn blas_serves(arch: &str) -> Result<(), String> {
    // Without the table there is no library.
    EXTRA.get().map_or(Ok(()), |extra| extra.blas_files.serve(arch))
}

/// ROCm allows every kernel the device's whole shared memory.
unsafe extern "C" fn allow_shared(_function: api::hipFunction_t, _bytes: c_uint) -> hipError_t {
    api::hipSuccess
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arch_is_rejected_in_other_struct_layouts() {
        let mut properties = [0_u8; 2048];
        assert_eq!(arch_in(&properties, ARCH_OFFSET), None);
        properties[ARCH_OFFSET..ARCH_OFFSET + 8].copy_from_slice(b"gfx1030\0");
        assert_eq!(arch_in(&properties, ARCH_OFFSET), Some(&b"gfx1030"[..]));
        assert_eq!(arch_in(&properties, ARCH_OFFSET_R0600), None);
        assert_eq!(arch_in(&properties, 4096), None);
    }
}
