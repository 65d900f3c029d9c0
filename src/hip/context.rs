//! One opened device: its function table, its number, and its properties that kernels depend on.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::sync::Arc;

use super::api::{self, Api, Runtime, hipError_t};
use super::error::HipError;
use super::platform;
use crate::device::{PlatformKind, Target};

thread_local! {
    /// The current device of this thread for the table's calls, as this module last set it.
    static CURRENT: Cell<Option<(PlatformKind, u32)>> = const { Cell::new(None) };
}

/// A device's clock, and whether it drives a display. Plans do not depend on either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The highest clock in kHz; 0 if the platform does not report it.
    pub clock_khz: u32,
    /// True if the platform limits a kernel's run time, as it does on a device that drives a display.
    pub drives_display: bool,
}

/// One opened device. Clones share it, and everything made from it keeps it open.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    api: Api,
    ordinal: u32,
    target: Target,
    compute_units: u32,
    blas_problem: Option<String>,
    name: String,
    pace: Pace,
    versions: Versions,
}

impl Context {
    /// Opens a device: loads the platform's libraries, starts its runtime and queries the device. For the thread to call
    /// it on, see [`Device::probe`](super::Device::probe).
    ///
    /// # Errors
    /// The platform's libraries cannot be loaded, its runtime does not start, or the device does not exist.
    pub fn open(platform: PlatformKind, ordinal: u32) -> Result<Context, HipError> {
        Context::over(platform::api(platform)?, platform, ordinal)
    }

    /// Opens a device of a table that is already filled.
    pub(crate) fn over(api: &Api, platform: PlatformKind, ordinal: u32) -> Result<Context, HipError> {
        // SAFETY: takes no pointer; repeated calls are allowed.
        check("hipInit", unsafe { (api.runtime.hipInit)(0) })?;
        set_device(api, platform, ordinal)?;
        let mut target = target(api, platform, ordinal)?;
        let blas_problem = blas_problem(api, &target);
        target.blas &= blas_problem.is_none();
        let compute_units = compute_units(api, &target, ordinal)?;
        let name = name(api, ordinal)?;
        let versions = Versions::ask(api, platform)?;
        let pace = pace(api, ordinal)?;
        let api = *api;
        let inner = Inner { api, ordinal, target, compute_units, blas_problem, name, pace, versions };
        Ok(Context { inner: Arc::new(inner) })
    }

    /// The function table.
    pub(super) fn api(&self) -> &Api {
        &self.inner.api
    }

    /// The target that kernels are chosen and compiled for.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The device's compute units as its data sheet counts them. [`Target::compute_units`] is what the runtime schedules
    /// on: pairs of them on RDNA.
    pub fn compute_units(&self) -> u32 {
        self.inner.compute_units
    }

    /// The reason why the BLAS library is there but not used on this device.
    pub fn blas_problem(&self) -> Option<&str> {
        self.inner.blas_problem.as_deref()
    }

    /// The device's display name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The device's clock, and whether it drives a display.
    pub fn pace(&self) -> Pace {
        self.inner.pace
    }

    /// The device's number on its platform.
    pub fn ordinal(&self) -> u32 {
        self.inner.ordinal
    }

    /// Versions of the runtime, the driver and the compiler.
    pub fn versions(&self) -> Versions {
        self.inner.versions
    }

    /// Free and total bytes of device memory. Other programs change the free bytes at any time. A runtime that counts more
    /// bytes free than there are is corrected.
    pub fn memory_info(&self) -> Result<(u64, u64), HipError> {
        let (mut free, mut total) = (0_usize, 0_usize);
        // SAFETY: both are valid for a write.
        let code = unsafe { (self.runtime()?.hipMemGetInfo)(&mut free, &mut total) };
        self.check("hipMemGetInfo", code)?;
        Ok((free.min(total) as u64, total as u64))
    }

    /// Returns an error if `code`, the result of `call`, is not success.
    pub(super) fn check(&self, call: &'static str, code: hipError_t) -> Result<(), HipError> {
        check(call, code)
    }

    /// The runtime's functions, with this device current for the calling thread.
    pub(super) fn runtime(&self) -> Result<&Runtime, HipError> {
        set_device(&self.inner.api, self.inner.target.platform, self.inner.ordinal)?;
        Ok(&self.inner.api.runtime)
    }

    /// Runs a call that releases something. A failure is only logged, as no caller can handle it.
    pub(super) fn release(&self, call: &'static str, release: impl FnOnce(&Runtime) -> hipError_t) {
        let result = self.runtime().and_then(|runtime| check(call, release(runtime)));
        if let Err(error) = result {
            tracing::error!("device {} of {}: {error}", self.ordinal(), self.target().platform);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("ordinal", &self.inner.ordinal)
            .field("target", &self.inner.target)
            .finish_non_exhaustive()
    }
}

pub(super) fn check(call: &'static str, code: hipError_t) -> Result<(), HipError> {
    if code == api::hipSuccess { Ok(()) } else { Err(HipError::new(call, code)) }
}

/// Makes a device current for the calling thread. HIP's state is per thread, and each call that sets it costs time.
fn set_device(api: &Api, platform: PlatformKind, ordinal: u32) -> Result<(), HipError> {
    if CURRENT.get() == Some((platform, ordinal)) {
        return Ok(());
    }
    CURRENT.set(None);
    let device = number(ordinal)?;
    // SAFETY: takes no pointer.
    check("hipSetDevice", unsafe { (api.runtime.hipSetDevice)(device) })?;
    CURRENT.set(Some((platform, ordinal)));
    Ok(())
}

fn number(ordinal: u32) -> Result<c_int, HipError> {
    c_int::try_from(ordinal).map_err(|_| HipError::new("hipSetDevice", api::hipErrorInvalidDevice))
}

/// The properties of a device that kernels depend on.
///
/// # Errors
/// A call fails, or a reported value is impossible.
pub(super) fn target(api: &Api, platform: PlatformKind, ordinal: u32) -> Result<Target, HipError> {
    let device = number(ordinal)?;
    let attribute = |attribute: c_int, what: &str| -> Result<u32, HipError> {
        let mut value: c_int = 0;
        // SAFETY: `value` is valid for a write.
        let code = unsafe { (api.runtime.hipDeviceGetAttribute)(&mut value, attribute, device) };
        check("hipDeviceGetAttribute", code)?;
        u32::try_from(value).ok().filter(|&value| value > 0).ok_or_else(|| {
            let text = format!("the device says that it has {value} {what}");
            HipError::with_text("hipDeviceGetAttribute", api::hipErrorInvalidValue, text)
        })
    };
    let wave = attribute(api::hipDeviceAttributeWarpSize, "lanes in a wave")?;
    if wave != 32 && wave != 64 {
        let text = format!("waves of {wave} lanes; the kernels are written for 32 and 64");
        return Err(HipError::with_text("hipDeviceGetAttribute", api::hipErrorNotSupported, text));
    }
    // SAFETY: `text` passes a buffer and its length.
    let arch = text("hipGetDeviceProperties", |buffer, len| unsafe { (api.arch)(buffer, len, device) });
    let arch = arch.map_err(|error| match error.code {
        api::hipErrorNotSupported => {
            let text = "the runtime does not say what to compile for where its versions 5 to 7 do";
            HipError { text: text.into(), ..error }
        }
        _ => error,
    })?;
    Ok(Target {
        platform,
        arch,
        wave,
        compute_units: attribute(api::hipDeviceAttributeMultiprocessorCount, "compute units")?,
        shared_bytes: attribute(api::hipDeviceAttributeMaxSharedMemoryPerBlock, "bytes of shared memory")?,
        blas: api.blas.is_some(),
    })
}

/// The reason why the BLAS library, if there is one, is not used on a device.
fn blas_problem(api: &Api, target: &Target) -> Option<String> {
    api.blas.as_ref().and_then(|_| (api.blas_serves)(target.base_arch()).err())
}

/// A device's compute units; the multiprocessors that the runtime counts where it does not tell them apart.
fn compute_units(api: &Api, target: &Target, ordinal: u32) -> Result<u32, HipError> {
    if target.platform != PlatformKind::Amd {
        return Ok(target.compute_units);
    }
    let (mut value, device): (c_int, _) = (0, number(ordinal)?);
    let attribute = api::hipDeviceAttributePhysicalMultiProcessorCount;
    // SAFETY: `value` is valid for a write.
    let code = unsafe { (api.runtime.hipDeviceGetAttribute)(&mut value, attribute, device) };
    let value = u32::try_from(value).ok().filter(|&units| code == api::hipSuccess && units > 0);
    Ok(value.unwrap_or(target.compute_units))
}

/// A device's [`Pace`]. Attributes that the platform does not know are left out.
fn pace(api: &Api, ordinal: u32) -> Result<Pace, HipError> {
    let device = number(ordinal)?;
    let attribute = |attribute: c_int| -> u32 {
        let mut value: c_int = 0;
        // SAFETY: `value` is valid for a write.
        let code = unsafe { (api.runtime.hipDeviceGetAttribute)(&mut value, attribute, device) };
        if code == api::hipSuccess { u32::try_from(value).unwrap_or(0) } else { 0 }
    };
    Ok(Pace {
        clock_khz: attribute(api::hipDeviceAttributeClockRate),
        drives_display: attribute(api::hipDeviceAttributeKernelExecTimeout) > 0,
    })
}

/// A device's display name.
pub(super) fn name(api: &Api, ordinal: u32) -> Result<String, HipError> {
    let device = number(ordinal)?;
    text("hipDeviceGetName", |buffer, len| {
        // SAFETY: the buffer has the length that is passed.
        unsafe { (api.runtime.hipDeviceGetName)(buffer, len, device) }
    })
}

/// Zero-terminated text that a call writes into a buffer.
fn text(
    call: &'static str,
    write: impl FnOnce(*mut c_char, c_int) -> hipError_t,
) -> Result<String, HipError> {
    // The last byte is withheld from the call, so the text always ends with a zero.
    let mut buffer = [0_u8; 257];
    check(call, write(buffer.as_mut_ptr().cast(), 256))?;
    let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
    Ok(text.to_string_lossy().trim().to_string())
}

/// Versions of the software that runs a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The platform. Each has its own way to encode a version as one number.
    pub platform: PlatformKind,
    /// The runtime.
    pub runtime: i32,
    /// The driver, or the newest runtime that the driver supports.
    pub driver: i32,
    /// The run-time compiler: major, minor.
    pub compiler: (i32, i32),
}

impl Versions {
    pub(super) fn ask(api: &Api, platform: PlatformKind) -> Result<Versions, HipError> {
        let (mut runtime, mut driver, mut major, mut minor) = (0, 0, 0, 0);
        // SAFETY: valid for a write.
        check("hipRuntimeGetVersion", unsafe { (api.runtime.hipRuntimeGetVersion)(&mut runtime) })?;
        // SAFETY: `driver` is valid for a write.
        check("hipDriverGetVersion", unsafe { (api.runtime.hipDriverGetVersion)(&mut driver) })?;
        // SAFETY: both are valid for a write.
        let code = unsafe { (api.rtc.hiprtcVersion)(&mut major, &mut minor) };
        if code != 0 {
            return Err(HipError {
                call: "hiprtcVersion",
                code,
                name: "HIPRTC_ERROR",
                text: "the run-time compiler does not start".into(),
            });
        }
        Ok(Versions { platform, runtime, driver, compiler: (major, minor) })
    }

    /// One of the version numbers in the vendor's notation: `6.4.43484`, `13.0`.
    pub fn dotted(&self, version: i32) -> String {
        match self.platform {
            // HIP_VERSION of hip_version.h: major · 10⁷ + minor · 10⁵ + patch; before 4.2 it was smaller than 10⁷.
            PlatformKind::Amd | PlatformKind::Sim if version >= 10_000_000 => {
                format!("{}.{}.{}", version / 10_000_000, version / 100_000 % 100, version % 100_000)
            }
            // CUDA_VERSION of cuda.h: major · 1000 + minor · 10.
            PlatformKind::Nvidia => format!("{}.{}", version / 1000, version % 1000 / 10),
            PlatformKind::Amd | PlatformKind::Sim => version.to_string(),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.compiler;
        let (runtime, driver) = (self.dotted(self.runtime), self.dotted(self.driver));
        write!(f, "{} runtime {runtime}, driver {driver}, compiler {major}.{minor}", self.platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_use_the_vendors_notation() {
        let amd = Versions {
            platform: PlatformKind::Amd,
            runtime: 60_443_484,
            driver: 70_200_001,
            compiler: (9, 0),
        };
        assert_eq!(amd.to_string(), "amd runtime 6.4.43484, driver 7.2.1, compiler 9.0");
        let nvidia =
            Versions { platform: PlatformKind::Nvidia, runtime: 12_080, driver: 13_000, compiler: (12, 8) };
        assert_eq!(nvidia.to_string(), "nvidia runtime 12.8, driver 13.0, compiler 12.8");
    }
}
