//! Which device `--device` means, and what a GPU's start shows of itself.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::CliError;
use super::progress::{Progress, Unit};
use crate::exec::{Loading, OnLoading};
use crate::hip::{Context, PlatformKind};
use crate::model::{DeviceChoice, Setup};

/// Where to compute, as `--device` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceArg {
    /// A GPU if there is one, else the CPU.
    Auto,
    Cpu,
    /// The GPU of this number.
    Hip(u32),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceArg, String> {
        let number = |n: &str| n.parse().map(DeviceArg::Hip).ok();
        let known = match text {
            "auto" => Some(DeviceArg::Auto),
            "cpu" => Some(DeviceArg::Cpu),
            "hip" => Some(DeviceArg::Hip(0)),
            _ => text.strip_prefix("hip:").and_then(number),
        };
        known.ok_or_else(|| "expected auto, cpu, hip or hip:N".into())
    }
}

/// The platforms to look at: the one that `RFGRAPH_HIP_PLATFORM` names, or those of real devices.
fn platforms() -> Result<Vec<PlatformKind>, CliError> {
    const VARIABLE: &str = "RFGRAPH_HIP_PLATFORM";
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
        return Ok(vec![PlatformKind::Amd, PlatformKind::Nvidia]);
    };
    let all = [PlatformKind::Amd, PlatformKind::Nvidia, PlatformKind::Sim];
    let kind = all.into_iter().find(|kind| name == kind.name());
    let unknown = || {
        let name = name.to_string_lossy();
        CliError::Usage(format!("{VARIABLE} is `{name}`; it can be amd, nvidia or sim"))
    };
    Ok(vec![kind.ok_or_else(unknown)?])
}

impl DeviceArg {
    /// The device, which is there.
    pub(super) fn choose(self) -> Result<DeviceChoice, CliError> {
        Ok(self.open()?.map_or(DeviceChoice::Cpu, |context| DeviceChoice::Hip {
            platform: context.target().platform,
            ordinal: context.ordinal(),
        }))
    }

    /// The GPU, or none for the CPU.
    pub(super) fn open(self) -> Result<Option<Context>, CliError> {
        let ordinal = match self {
            DeviceArg::Cpu => return Ok(None),
            DeviceArg::Auto => 0,
            DeviceArg::Hip(ordinal) => ordinal,
        };
        let mut reasons = Vec::new();
        for platform in platforms()? {
            match Context::open(platform, ordinal) {
                Ok(context) => {
                    tracing::info!("device: {} ({platform}, {})", context.name(), context.target().arch);
                    return Ok(Some(context));
                }
                Err(error) => reasons.push(format!("{platform}: {error}")),
            }
        }
        let reasons = reasons.join("; ");
        if self == DeviceArg::Auto {
            tracing::info!("device: the CPU, since no GPU was found ({reasons})");
            return Ok(None);
        }
        Err(CliError::Input(format!(
            "there is no GPU number {ordinal} ({reasons}); --device cpu runs without one"
        )))
    }
}

/// Bars for what a GPU's session does before its first token.
pub(super) fn setup() -> Setup {
    let bars: Mutex<(Option<Progress>, Option<Progress>)> = Mutex::new((None, None));
    let on_loading: OnLoading = Arc::new(move |loading| {
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        let (bar, done, total) = match loading {
            Loading::Kernels(done, total) => {
                let new = || Progress::new("compiling kernels", Unit::Programs, total);
                (bars.0.get_or_insert_with(new), done, total)
            }
            Loading::Weights(done, total) => {
                let new = || Progress::new("uploading", Unit::Bytes, total as usize);
                (bars.1.get_or_insert_with(new), done as usize, total as usize)
            }
        };
        bar.set(done);
        if done >= total {
            *bars = (None, None);
        }
    });
    Setup { on_loading: Some(on_loading), ..Setup::default() }
}
