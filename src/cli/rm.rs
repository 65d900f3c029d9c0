//! `rfgraph rm`: deletes a model from Hugging Face's cache.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::error::{CliError, eprintln_quietly};
use super::names::unknown;
use super::output::print;
use crate::exec::Bytes;
use crate::hub::{Store, remove};

/// Delete a model from Hugging Face's cache
///
/// All versions of the model that are in the cache are deleted. Its content stays as long as another name in the cache
/// uses it. Models of llama.cpp, of ollama and in folders are not deleted, except for links in folders.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Name of the model, as `rfgraph list` shows it
    #[arg(value_name = "MODEL")]
    model: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(args: &RmArgs) -> Result<(), CliError> {
    let store = Store::from_env()?;
    if let Some(preset) = store.preset(&args.model) {
        let reason = format!(
            "`{}` is a preset for {}; give the model's own name, or edit {}",
            preset.name,
            preset.file,
            store.places().presets.display()
        );
        return Err(CliError::Input(reason));
    }
    let entry = store.entry(&args.model)?.ok_or_else(|| CliError::Input(unknown(&args.model)))?;
    if !args.yes && !agreed(&format!("delete {} ({})?", entry.name, Bytes(entry.bytes)))? {
        return Err(CliError::Input("nothing was deleted".into()));
    }
    let removal = remove(&store, &entry)?;
    let freed = Bytes(removal.bytes);
    print(format!("deleted {}; {freed} are free now\n", entry.name))
}

/// Asks at the terminal.
fn agreed(question: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "standard input is not a terminal; use --yes to delete without confirmation".into(),
        ));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut line = String::new();
    if let Err(error) = io::stdin().read_line(&mut line) {
        eprintln_quietly(&format!("cannot read the answer: {error}"));
    }
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
