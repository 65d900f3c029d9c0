//! `rfgraph pull`: downloads a model from Hugging Face.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::error::{CliError, eprintln_quietly};
use super::interrupt::{self, Second};
use super::output::print;
use super::progress::{Progress, Unit};
use crate::exec::Bytes;
use crate::hub::{Event, HubError, HubOptions, Places, Pulled, Reference, pull};

/// Download a model from Hugging Face, or go on with a download
///
/// Without QUANT, Q4_K_M is taken, or else the first GGUF model of the repository. Prints the path of the file, the
/// first one of a split model. The files are in Hugging Face's cache, so that other programs find them too, and each
/// is checked by its SHA-256. A download that was stopped goes on where it ended.
#[derive(Debug, Args)]
#[command(
    after_help = "Environment: HF_TOKEN is sent for private and gated models, HF_ENDPOINT is another server, \
    HF_HUB_CACHE or HF_HOME another folder, HF_HUB_OFFLINE=1 stands for --offline."
)]
pub(super) struct PullArgs {
    /// Model: USER/REPO, USER/REPO:QUANT or USER/REPO:FILE.gguf; hf.co/ before it is accepted
    #[arg(value_name = "MODEL")]
    model: Reference,
    /// Do not download: only print the path of a model that is in the cache
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &PullArgs) -> Result<(), CliError> {
    let pulled = fetch(&args.model, args.offline, Some(interrupt::listen(Second::Exits)))?;
    print(format!("{}\n", pulled.path.display()))
}

/// Makes sure that a model is in the cache, and shows the progress. `stop` ends the download.
pub(super) fn fetch(
    reference: &Reference,
    offline: bool,
    stop: Option<&AtomicBool>,
) -> Result<Pulled, CliError> {
    let mut options = HubOptions::from_env(Places::from_env().hub);
    options.offline |= offline;
    let mut progress = Progress::new("downloading", Unit::Bytes, 0);
    let pulled = pull(reference, &options, &mut |event| {
        match event {
            Event::Chosen { name, files, bytes, is_fallback } => {
                if is_fallback {
                    let default = Pulled::DEFAULT;
                    eprintln_quietly(&format!("{} has no {default}; taking {name}", reference.repository()));
                }
                let parts = if files == 1 { String::new() } else { format!(" in {files} files") };
                tracing::info!("{name}: {}{parts}", Bytes(bytes));
            }
            Event::Bytes { done, total } => progress.set_of(done as usize, total as usize),
            Event::Waiting { file } => {
                eprintln_quietly(&format!("waiting for another program that downloads {file}"));
            }
        }
        match stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(pulled)
}

/// The model in the cache if it is there, so that the same command runs the same model; else it is downloaded. Without a
/// quantization the repository is asked unless its default is there: the cache may have another one.
pub(super) fn obtain(reference: &Reference, offline: bool) -> Result<Pulled, CliError> {
    let mut options = HubOptions::from_env(Places::from_env().hub);
    options.offline = true;
    let is_default = |name: &str| name.ends_with(&format!(":{}", Pulled::DEFAULT));
    match pull(reference, &options, &mut |_| ControlFlow::Continue(())) {
        Ok(there) if reference.quant().is_some() || is_default(&there.name) => Ok(there),
        Ok(_) | Err(HubError::Offline { .. } | HubError::Several { .. }) => fetch(reference, offline, None),
        Err(error) => Err(error.into()),
    }
}
