//! Finds devices, or reports why there are none in words that a user can act on.
//!
//! This module never panics. A GPU's libraries are other people's code on hardware in any state, so they are called on
//! a separate thread, and a library that does not answer in time is an error. Only AMD's are opened on the calling one.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::{self, Api};
use super::context::{self, Context, Versions};
use super::error::HipError;
use super::platform::{self, LoadError, Search, visible, visible_devices};
use crate::Remedy;
use crate::device::{PlatformKind, Target};

/// Restricts the search to one platform.
const PLATFORM_VARIABLE: &str = "RFGRAPH_HIP_PLATFORM";

/// The deadline of a platform's libraries. Opening them reads up to a gigabyte, possibly from a slow disk.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The reason why a platform has no device, or not the requested one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The libraries cannot be opened.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The driver's device node is missing or may not be opened.
    #[error("{0}")]
    Node(String),
    /// The runtime works but finds no device.
    #[error("the runtime works and sees no GPU{causes}")]
    NoDevice {
        /// A possible reason, with its own punctuation.
        causes: String,
    },
    /// A call that failed.
    #[error("{error}{causes}")]
    Call {
        /// The failed call.
        #[source]
        error: HipError,
        /// A possible reason, with its own punctuation.
        causes: String,
    },
    /// The libraries do not answer in time.
    #[error(
        "the libraries of `{platform}` did not answer within {seconds} s; is the GPU or its driver hung?"
    )]
    Stuck {
        /// The platform.
        platform: PlatformKind,
        /// The deadline in seconds.
        seconds: u64,
    },
    /// The probing thread could not be started, or ended early.
    #[error("the libraries of `{platform}` could not be asked: {reason}")]
    NotAsked {
        /// The platform.
        platform: PlatformKind,
        /// The reason.
        reason: String,
    },
    /// An unknown platform.
    #[error("{PLATFORM_VARIABLE} is `{name}`; it can be amd, nvidia or sim")]
    UnknownPlatform {
        /// The requested name.
        name: String,
    },
    /// Fewer devices than requested.
    #[error(
        "there is no device hip:{index}; the `{platform}` platform has {count}, counted from 0; choose another device"
    )]
    NoSuchDevice {
        /// The requested number.
        index: u32,
        /// The platform that was chosen.
        platform: PlatformKind,
        /// The number of its devices.
        count: usize,
    },
    /// No platform has a device.
    #[error("no GPU was found: {0}; install ROCm or NVIDIA's driver, or choose another device")]
    Nothing(String),
}

impl ProbeError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            ProbeError::NoSuchDevice { .. } | ProbeError::Nothing(_) => &[Remedy::OtherDevice],
            _ => &[],
        }
    }
}

/// A device, as printed by `rfgraph devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number, counted from 0.
    pub index: u32,
    /// Its number for [`Context::open`]. Differs from `index` only on the simulated platform.
    pub ordinal: u32,
    /// Its display name.
    pub name: String,
    /// The target that kernels are compiled for.
    pub target: Target,
    /// Its compute units; on RDNA `target.compute_units` counts pairs of them.
    pub compute_units: u32,
    /// The reason why the BLAS library is there but not used.
    pub blas_problem: Option<String>,
    /// Bytes of free memory.
    pub free: u64,
    /// Bytes of total memory.
    pub total: u64,
}

impl Device {
    /// Probes every candidate platform, once per process. On AMD the first call that looks for devices belongs on the
    /// thread that ends the process: with ROCm 6.4.3 a process whose libraries another thread opened crashes at its end.
    ///
    /// # Errors
    /// `RFGRAPH_HIP_PLATFORM` is not a platform's name.
    pub fn probe() -> Result<&'static ProbeReport, ProbeError> {
        static REPORT: OnceLock<Result<ProbeReport, ProbeError>> = OnceLock::new();
        let report = REPORT.get_or_init(|| Probe::from_env().map(|probe| probe.report()));
        report.as_ref().map_err(ProbeError::clone)
    }
}

/// The results for each platform, in the order in which platforms are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The platforms.
    pub platforms: Vec<PlatformReport>,
}

/// The devices of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformReport {
    /// The platform.
    pub platform: PlatformKind,
    /// Versions of the runtime, the driver and the compiler, if the libraries could be opened.
    pub versions: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// The reason why there is no device, or a failure of one device.
    pub problem: Option<String>,
}

impl PlatformReport {
    /// A platform without devices, and the reason.
    pub(crate) fn nothing(platform: PlatformKind, problem: impl ToString) -> PlatformReport {
        PlatformReport { platform, versions: None, devices: Vec::new(), problem: Some(problem.to_string()) }
    }
}

/// The user's choice of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceRequest {
    /// A GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: the first, or the one of this number.
    Hip(Option<u32>),
}

/// The selected device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selected {
    /// The CPU.
    Cpu {
        /// The reason why no GPU was selected.
        why: String,
    },
    /// A GPU: the arguments of [`Context::open`].
    Hip {
        /// The platform.
        platform: PlatformKind,
        /// The device's number on the platform.
        ordinal: u32,
    },
}

/// Selects a device of the first platform that has one. Opens no device. For the thread to call it on, see
/// [`Device::probe`].
///
/// # Errors
/// A GPU was requested and there is none, or none of that number; `RFGRAPH_HIP_PLATFORM` is not a platform's name.
pub fn select(request: DeviceRequest) -> Result<Selected, ProbeError> {
    Probe::from_env()?.select(request)
}

/// Options of the search for devices.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The platforms, in the order in which they are tried.
    pub platforms: Vec<PlatformKind>,
    /// Library search paths in place of the default ones. Libraries that the process opened earlier stay open.
    pub search: Option<Search>,
    /// Device nodes of AMD's driver. The runtime is only called if one of them can be opened.
    pub nodes: Vec<PathBuf>,
    /// The deadline of a platform's libraries; AMD's are opened without it.
    pub deadline: Duration,
}

/// A platform's devices, before any is opened.
struct Found {
    api: &'static Api,
    /// The argument of [`Context::open`] for each user-visible device number.
    ordinals: Vec<u32>,
}

impl Probe {
    /// The platform in `RFGRAPH_HIP_PLATFORM`, or by default the platforms of real devices.
    ///
    /// # Errors
    /// The variable is not a known platform's name.
    pub fn from_env() -> Result<Probe, ProbeError> {
        let named = std::env::var_os(PLATFORM_VARIABLE).filter(|name| !name.is_empty());
        let platforms = match named {
            None => vec![PlatformKind::Amd, PlatformKind::Nvidia],
            Some(name) => {
                let all = [PlatformKind::Amd, PlatformKind::Nvidia, PlatformKind::Sim];
                let kind = all.into_iter().find(|kind| name == kind.name());
                let name = || name.to_string_lossy().into_owned();
                vec![kind.ok_or_else(|| ProbeError::UnknownPlatform { name: name() })?]
            }
        };
        // `/dev/dxg` is the GPU in Windows Subsystem for Linux.
        let nodes = ["/dev/kfd", "/dev/dxg"].map(PathBuf::from).into();
        Ok(Probe { platforms, search: None, nodes, deadline: DEADLINE })
    }

    /// Probes every platform and every device of each.
    pub fn report(&self) -> ProbeReport {
        ProbeReport { platforms: self.platforms.iter().map(|&platform| self.report_of(platform)).collect() }
    }

    /// Probes one platform and every device of it.
    pub fn report_of(&self, platform: PlatformKind) -> PlatformReport {
        let probe = self.clone();
        self.guarded(platform, move || Ok(probe.look(platform)))
            .unwrap_or_else(|error| PlatformReport::nothing(platform, error))
    }

    fn look(&self, platform: PlatformKind) -> PlatformReport {
        let found = match self.find(platform) {
            Ok(found) => found,
            Err(error) => return PlatformReport::nothing(platform, error),
        };
        let mut report = PlatformReport { platform, versions: None, devices: Vec::new(), problem: None };
        match Versions::ask(found.api, platform) {
            Ok(versions) => report.versions = Some(versions.to_string()),
            Err(error) => report.problem = Some(error.to_string()),
        }
        for (index, &ordinal) in (0_u32..).zip(&found.ordinals) {
            match Context::over(found.api, platform, ordinal).and_then(|context| describe(&context, index)) {
                Ok(device) => report.devices.push(device),
                // The simulated platform's numbers have gaps.
                Err(error) if platform == PlatformKind::Sim && error.code == api::hipErrorInvalidDevice => {}
                Err(error) => report.problem = Some(format!("hip:{index}: {error}")),
            }
        }
        report
    }

    /// Selects a device of the first platform that has one. Opens no device.
    ///
    /// # Errors
    /// A GPU was requested and there is none, or none of that number.
    pub fn select(&self, request: DeviceRequest) -> Result<Selected, ProbeError> {
        let index = match request {
            DeviceRequest::Cpu => return Ok(Selected::Cpu { why: "it was asked for".into() }),
            DeviceRequest::Auto => 0,
            DeviceRequest::Hip(index) => index.unwrap_or(0),
        };
        let mut reasons = Vec::new();
        for &platform in &self.platforms {
            let probe = self.clone();
            let found = self.guarded(platform, move || probe.find(platform));
            match found {
                Err(error) => reasons.push(format!("{platform}: {error}")),
                Ok(Found { ordinals, .. }) => {
                    let ordinal = usize::try_from(index).ok().and_then(|index| ordinals.get(index));
                    let no_such = ProbeError::NoSuchDevice { index, platform, count: ordinals.len() };
                    return ordinal.map(|&ordinal| Selected::Hip { platform, ordinal }).ok_or(no_such);
                }
            }
        }
        let reasons = reasons.join("; ");
        match request {
            DeviceRequest::Auto => Ok(Selected::Cpu { why: format!("no GPU was found ({reasons})") }),
            _ => Err(ProbeError::Nothing(reasons)),
        }
    }

    /// Opens a platform's libraries.
    fn open(&self, platform: PlatformKind) -> Result<&'static Api, LoadError> {
        match &self.search {
            Some(search) => platform::api_from(platform, search),
            None => platform::api(platform),
        }
    }

    /// Opens a platform's libraries and counts its devices. Call it through `guarded`.
    fn find(&self, platform: PlatformKind) -> Result<Found, ProbeError> {
        let api = self.open(platform)?;
        if platform == PlatformKind::Amd {
            // Without its driver the runtime finds nothing, and may hang.
            self.check_nodes()?;
        }
        let failed = |error| ProbeError::Call { error, causes: causes(platform) };
        let no_device = || ProbeError::NoDevice { causes: causes(platform) };
        // SAFETY: takes no pointer; repeated calls are allowed.
        match unsafe { (api.runtime.hipInit)(0) } {
            api::hipErrorNoDevice => return Err(no_device()),
            code => context::check("hipInit", code).map_err(failed)?,
        }
        let mut count = 0;
        // SAFETY: `count` is valid for a write.
        match unsafe { (api.runtime.hipGetDeviceCount)(&mut count) } {
            api::hipErrorNoDevice => return Err(no_device()),
            code => context::check("hipGetDeviceCount", code).map_err(failed)?,
        }
        let count = u32::try_from(count).unwrap_or(0);
        let ordinals = match platform {
            PlatformKind::Sim => visible(count, visible_devices().as_deref()),
            // The runtime has already left out the hidden devices.
            PlatformKind::Amd | PlatformKind::Nvidia => (0..count).collect(),
        };
        if ordinals.is_empty() { Err(no_device()) } else { Ok(Found { api, ordinals }) }
    }

    fn check_nodes(&self) -> Result<(), ProbeError> {
        let mut refused = None;
        for node in &self.nodes {
            match OpenOptions::new().read(true).write(true).open(node) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => refused = Some(refusal(node, &error)),
            }
        }
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.display().to_string()).collect();
        Err(ProbeError::Node(refused.unwrap_or_else(|| {
            format!(
                "ROCm is installed, but there is no {}: no AMD GPU is built in, its driver `amdgpu` is not loaded, or \
                 this container is not given it (--device /dev/kfd --device /dev/dri)",
                nodes.join(" nor ")
            )
        })))
    }

    /// Runs `ask` on a separate thread and waits for it until the deadline.
    ///
    /// AMD's libraries are opened on the calling thread first, without a deadline. If one thread opens `libamdhip64`, and
    /// another one calls it and runs the exit handlers, the runtime deletes an object of its own twice and the process
    /// ends with SIGSEGV (6.4.3; `tests/hip/exit.rs`).
    fn guarded<T: Send + 'static>(
        &self,
        platform: PlatformKind,
        ask: impl FnOnce() -> Result<T, ProbeError> + Send + 'static,
    ) -> Result<T, ProbeError> {
        if platform == PlatformKind::Sim {
            // The simulated platform is part of this process and hides devices per thread.
            return ask();
        }
        if platform == PlatformKind::Amd {
            self.open(platform)?;
        }
        let not_asked = |reason: String| ProbeError::NotAsked { platform, reason };
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // The receiver is gone if the deadline has passed.
            let _ = sender.send(ask());
        };
        thread::Builder::new()
            .name("rfgraph-probe".into())
            .spawn(work)
            .map_err(|error| not_asked(error.to_string()))?;
        receiver.recv_timeout(self.deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                platform::leave_alone(platform);
                ProbeError::Stuck { platform, seconds: self.deadline.as_secs() }
            }
            RecvTimeoutError::Disconnected => not_asked("the thread that asks ended early".into()),
        })?
    }
}

fn describe(context: &Context, index: u32) -> Result<Device, HipError> {
    let (free, total) = context.memory_info()?;
    Ok(Device {
        index,
        ordinal: context.ordinal(),
        name: context.name().to_string(),
        target: context.target().clone(),
        compute_units: context.compute_units(),
        blas_problem: context.blas_problem().map(Into::into),
        free,
        total,
    })
}

fn refusal(node: &std::path::Path, error: &std::io::Error) -> String {
    let node = node.display();
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "this user may not open {node}; add the user to the groups `render` and `video`, and log in again"
        ),
        _ => format!("{node} cannot be opened: {error}"),
    }
}

/// A possible reason why a runtime sees no GPU: hidden devices, or an unreachable driver.
fn causes(platform: PlatformKind) -> String {
    let (variables, nodes): (&[&str], &[&str]) = match platform {
        PlatformKind::Amd => (&["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"], &[]),
        PlatformKind::Nvidia => {
            (&["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"], &["/dev/nvidiactl", "/dev/dxg"])
        }
        PlatformKind::Sim => (&["HIP_VISIBLE_DEVICES"], &[]),
    };
    let mut causes = Vec::new();
    for variable in variables {
        if let Some(value) = std::env::var_os(variable) {
            causes.push(format!("{variable} is `{}`, which may hide it", value.to_string_lossy()));
        }
    }
    let there = nodes.iter().find(|node| std::path::Path::new(node).exists());
    match there {
        Some(node) => match OpenOptions::new().read(true).write(true).open(node) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                causes.push(format!("this user may not open {node}"));
            }
            _ => {}
        },
        None if !nodes.is_empty() => causes.push(format!(
            "there is no {}: the driver is not loaded, or this container is not given the GPU",
            nodes.join(" nor ")
        )),
        None => {}
    }
    if platform == PlatformKind::Amd {
        causes.push(
            "ROCm may not support this GPU, or this user may not open /dev/dri/renderD* (groups `render` and `video`)"
                .into(),
        );
    }
    if causes.is_empty() { String::new() } else { format!("; {}", causes.join("; ")) }
}
