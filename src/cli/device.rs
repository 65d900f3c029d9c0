//! Resolves `--device`, and shows progress while a GPU starts.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{CliError, eprintln_quietly};
use super::progress::{Progress, Unit};
use crate::exec::{HipOptions, Loading, OnLoading};
use crate::hip::{Context, DeviceRequest, Selected, select};
use crate::model::{DeviceChoice, Model, SessionExtras};

/// A value of `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceArg {
    /// A GPU if one is found and the model is not too small for it, otherwise the CPU.
    Auto,
    Cpu,
    /// The GPU with this number.
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
    /// The device for this model; checks that it opens.
    pub(super) fn resolve(self, model: &Model) -> Result<DeviceChoice, CliError> {
        Ok(self.open(model)?.0)
    }

    /// The device for this model, and the GPU if it is one.
    pub(super) fn open(self, model: &Model) -> Result<(DeviceChoice, Option<Context>), CliError> {
        let number = match self {
            DeviceArg::Cpu => return Ok((DeviceChoice::Cpu, None)),
            DeviceArg::Hip(number) => Some(number),
            DeviceArg::Auto => None,
        };
        let choice = match number {
            None => DeviceChoice::Auto,
            Some(_) => {
                match select(DeviceRequest::Hip(number))
                    .map_err(|error| CliError::Input(error.to_string()))?
                {
                    Selected::Hip { platform, ordinal } => DeviceChoice::Hip { platform, ordinal },
                    Selected::Cpu { .. } => DeviceChoice::Cpu,
                }
            }
        };
        let opened = choice.open(model)?;
        if let (_, Some(context)) = &opened {
            if self == DeviceArg::Auto {
                eprintln_quietly(&format!(
                    "computing on {}; --device cpu computes on the CPU",
                    context.name()
                ));
            }
            let target = context.target();
            tracing::info!("device: {} ({}, {})", context.name(), target.platform, target.arch);
        }
        Ok(opened)
    }
}

/// Progress bars for the work of a GPU session before its first token.
pub(super) fn extras() -> SessionExtras {
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
    SessionExtras { hip: HipOptions::from_env(), on_loading: Some(on_loading), ..SessionExtras::default() }
}
