//! Which device `--device` means, and what a GPU's start shows of itself.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{CliError, eprintln_quietly};
use super::progress::{Progress, Unit};
use crate::exec::{Loading, OnLoading};
use crate::hip::{Context, Request, Selected, select};
use crate::model::{DeviceChoice, ModelError, Setup};

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
        let request = match self {
            DeviceArg::Auto => Request::Auto,
            DeviceArg::Cpu => Request::Cpu,
            DeviceArg::Hip(number) => Request::Hip(Some(number)),
        };
        let (platform, ordinal) = match select(request).map_err(|error| CliError::Input(error.to_string()))? {
            Selected::Hip { platform, ordinal } => (platform, ordinal),
            Selected::Cpu { why } => {
                tracing::info!("device: the CPU ({why})");
                return Ok(None);
            }
        };
        let context = match Context::open(platform, ordinal) {
            Ok(context) => context,
            Err(error) if self == DeviceArg::Auto => {
                tracing::warn!(
                    "GPU {ordinal} of platform {platform} does not open, so the CPU computes: {error}"
                );
                return Ok(None);
            }
            Err(error) => return Err(ModelError::Device { platform, ordinal, error }.into()),
        };
        if self == DeviceArg::Auto {
            eprintln_quietly(&format!("computing on {}; --device cpu computes on the CPU", context.name()));
        }
        tracing::info!("device: {} ({platform}, {})", context.name(), context.target().arch);
        Ok(Some(context))
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
