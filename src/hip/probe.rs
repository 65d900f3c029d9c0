//! Which devices there are, or why there are none, in words that a user can act on.
//!
//! Nothing here panics. A GPU's libraries are other people's code on hardware in any state: they are asked on a
//! thread of their own, and one that does not answer in time is an error.

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
use crate::device::{PlatformKind, Target};

/// Names the one platform to look at.
const PLATFORM_VARIABLE: &str = "RFGRAPH_HIP_PLATFORM";

/// How long a platform's libraries may take to answer. Opening them reads up to a gigabyte, from a slow disk too.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Why a platform has no device, or not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The libraries cannot be opened.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The driver's device node is not there or may not be opened.
    #[error("{0}")]
    Node(String),
    /// The runtime works and sees nothing.
    #[error("the runtime works and sees no GPU{hint}")]
    NoDevice {
        /// What may be the reason, with its own punctuation.
        hint: String,
    },
    /// A call that failed.
    #[error("{error}{hint}")]
    Call {
        /// The call.
        #[source]
        error: HipError,
        /// What may be the reason, with its own punctuation.
        hint: String,
    },
    /// The libraries do not answer.
    #[error(
        "the libraries of `{platform}` did not answer within {seconds} s; is the GPU or its driver hung?"
    )]
    Stuck {
        /// The platform.
        platform: PlatformKind,
        /// How long they had.
        seconds: u64,
    },
    /// The thread that asks could not be started, or ended early.
    #[error("the libraries of `{platform}` could not be asked: {reason}")]
    NotAsked {
        /// The platform.
        platform: PlatformKind,
        /// Why.
        reason: String,
    },
    /// A platform that nobody knows.
    #[error("{PLATFORM_VARIABLE} is `{name}`; it can be amd, nvidia or sim")]
    UnknownPlatform {
        /// What was asked for.
        name: String,
    },
    /// Fewer devices than asked for.
    #[error("there is no device hip:{index}; the `{platform}` platform has {count}, counted from 0")]
    NoSuchDevice {
        /// The number that was asked for.
        index: u32,
        /// The platform that was taken.
        platform: PlatformKind,
        /// Its devices.
        count: usize,
    },
    /// No platform has a device.
    #[error("no GPU was found: {0}")]
    Nothing(String),
}

/// A device, as `rfgraph devices` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number, counted from 0.
    pub index: u32,
    /// Its number for [`Context::open`]. Differs from the other only on the simulated platform.
    pub ordinal: u32,
    /// Its name, for people.
    pub name: String,
    /// What kernels are compiled for.
    pub target: Target,
    /// Bytes of memory that were free.
    pub free: u64,
    /// Bytes of memory in all.
    pub total: u64,
}

impl Device {
    /// Looks at every platform that may be tried, once per process.
    ///
    /// # Errors
    /// `RFGRAPH_HIP_PLATFORM` names none.
    pub fn probe() -> Result<&'static Report, ProbeError> {
        static REPORT: OnceLock<Result<Report, ProbeError>> = OnceLock::new();
        let report = REPORT.get_or_init(|| Probe::from_env().map(|probe| probe.report()));
        report.as_ref().map_err(ProbeError::clone)
    }
}

/// What was found, platform by platform, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The platforms.
    pub platforms: Vec<PlatformReport>,
}

/// What one platform has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformReport {
    /// The platform.
    pub platform: PlatformKind,
    /// Versions of the runtime, the driver and the compiler, where the libraries could be opened.
    pub versions: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Why there is none, or what went wrong with one.
    pub problem: Option<String>,
}

impl PlatformReport {
    /// A platform that has nothing, and why.
    pub(crate) fn nothing(platform: PlatformKind, problem: impl ToString) -> PlatformReport {
        PlatformReport { platform, versions: None, devices: Vec::new(), problem: Some(problem.to_string()) }
    }
}

/// Where to compute, as a user asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// On a GPU if there is one, else on the CPU.
    Auto,
    /// On the CPU.
    Cpu,
    /// On a GPU: the first, or the one of this number.
    Hip(Option<u32>),
}

/// Where to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selected {
    /// On the CPU.
    Cpu {
        /// Why not on a GPU.
        why: String,
    },
    /// On a GPU: what [`Context::open`] takes.
    Hip {
        /// Whose libraries.
        platform: PlatformKind,
        /// Its number there.
        ordinal: u32,
    },
}

/// Finds where to compute, on the first platform that has a device. Opens no device.
///
/// # Errors
/// A GPU was asked for and there is none, or none of that number; `RFGRAPH_HIP_PLATFORM` names no platform.
pub fn select(request: Request) -> Result<Selected, ProbeError> {
    Probe::from_env()?.select(request)
}

/// How to look for devices.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The platforms, in the order in which they are tried.
    pub platforms: Vec<PlatformKind>,
    /// Where libraries are looked for, if not in the usual places. What a process opened first stays.
    pub search: Option<Search>,
    /// Nodes of AMD's driver; one must be there and may be opened, or the runtime is not asked.
    pub nodes: Vec<PathBuf>,
    /// How long a platform's libraries may take to answer.
    pub deadline: Duration,
}

/// What a platform has, before any device is opened.
struct Found {
    api: &'static Api,
    /// What [`Context::open`] takes, by a device's number for the user.
    ordinals: Vec<u32>,
}

impl Probe {
    /// The platforms that `RFGRAPH_HIP_PLATFORM` names, or those of real devices.
    ///
    /// # Errors
    /// It names none that is known.
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
        // The second is the GPU under Windows' Linux.
        let nodes = ["/dev/kfd", "/dev/dxg"].map(PathBuf::from).into();
        Ok(Probe { platforms, search: None, nodes, deadline: DEADLINE })
    }

    /// Looks at every platform, and at every device of each.
    pub fn report(&self) -> Report {
        Report { platforms: self.platforms.iter().map(|&platform| self.report_of(platform)).collect() }
    }

    /// Looks at one platform, and at every device of it.
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

    /// Finds where to compute, on the first platform that has a device. Opens no device.
    ///
    /// # Errors
    /// A GPU was asked for and there is none, or none of that number.
    pub fn select(&self, request: Request) -> Result<Selected, ProbeError> {
        let index = match request {
            Request::Cpu => return Ok(Selected::Cpu { why: "it was asked for".into() }),
            Request::Auto => 0,
            Request::Hip(index) => index.unwrap_or(0),
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
            Request::Auto => Ok(Selected::Cpu { why: format!("no GPU was found ({reasons})") }),
            _ => Err(ProbeError::Nothing(reasons)),
        }
    }

    /// Opens a platform's libraries and counts its devices. Call it guarded.
    fn find(&self, platform: PlatformKind) -> Result<Found, ProbeError> {
        let api = match &self.search {
            Some(search) => platform::api_from(platform, search)?,
            None => platform::api(platform)?,
        };
        if platform == PlatformKind::Amd {
            // Without its driver the runtime has nothing to find, and may wait for it.
            self.check_nodes()?;
        }
        let failed = |error| ProbeError::Call { error, hint: hint(platform) };
        let no_device = || ProbeError::NoDevice { hint: hint(platform) };
        // SAFETY: takes no pointer; it may be called any number of times.
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
            // The runtime, or its twin here, has seen to it.
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

    /// Runs `ask` on a thread of its own, and waits no longer than the deadline.
    fn guarded<T: Send + 'static>(
        &self,
        platform: PlatformKind,
        ask: impl FnOnce() -> Result<T, ProbeError> + Send + 'static,
    ) -> Result<T, ProbeError> {
        if platform == PlatformKind::Sim {
            // It is a part of this process, and hides devices from single threads.
            return ask();
        }
        let not_asked = |reason: String| ProbeError::NotAsked { platform, reason };
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // Nobody waits for an answer that comes too late.
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
    let (name, target) = (context.name().to_string(), context.target().clone());
    Ok(Device { index, ordinal: context.ordinal(), name, target, free, total })
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

/// What may keep a runtime from seeing a GPU: hidden devices, or a driver that cannot be reached.
fn hint(platform: PlatformKind) -> String {
    let (variables, nodes): (&[&str], &[&str]) = match platform {
        PlatformKind::Amd => (&["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"], &[]),
        PlatformKind::Nvidia => {
            (&["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"], &["/dev/nvidiactl", "/dev/dxg"])
        }
        PlatformKind::Sim => (&["HIP_VISIBLE_DEVICES"], &[]),
    };
    let mut hints = Vec::new();
    for variable in variables {
        if let Some(value) = std::env::var_os(variable) {
            hints.push(format!("{variable} is `{}`, which may hide it", value.to_string_lossy()));
        }
    }
    let there = nodes.iter().find(|node| std::path::Path::new(node).exists());
    match there {
        Some(node) => match OpenOptions::new().read(true).write(true).open(node) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                hints.push(format!("this user may not open {node}"));
            }
            _ => {}
        },
        None if !nodes.is_empty() => hints.push(format!(
            "there is no {}: the driver is not loaded, or this container is not given the GPU",
            nodes.join(" nor ")
        )),
        None => {}
    }
    if platform == PlatformKind::Amd {
        hints.push(
            "ROCm may not support this GPU, or this user may not open /dev/dri/renderD* (groups `render` and `video`)"
                .into(),
        );
    }
    if hints.is_empty() { String::new() } else { format!("; {}", hints.join("; ")) }
}
