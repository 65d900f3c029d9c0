//! A MODEL on the command line: the path of a file, or the name of a model that is on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;

use super::error::CliError;
#[cfg(feature = "hub")]
use crate::hub::{Preset, Reference, Store};

/// A model's file.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) path: PathBuf,
    /// The preset, if the name is one.
    #[cfg(feature = "hub")]
    pub(super) preset: Option<Preset>,
}

impl Located {
    pub(super) fn at(path: impl Into<PathBuf>) -> Located {
        Located {
            path: path.into(),
            #[cfg(feature = "hub")]
            preset: None,
        }
    }
}

/// The file of a path or name. A path to something that exists wins; absolute paths, and those that begin with a dot, are
/// never names.
#[cfg(feature = "hub")]
pub(super) fn locate(given: &Path) -> Result<Located, CliError> {
    let name = given.to_str().filter(|name| !given.is_absolute() && !name.starts_with('.'));
    let Some(name) = name.filter(|_| !given.exists()) else { return Ok(Located::at(given)) };
    let store = Store::from_env()?;
    match store.find(name)? {
        Some(path) => Ok(Located { path, preset: store.preset(name).cloned() }),
        None => Err(CliError::Input(unknown(name))),
    }
}

/// The file of a path; names are in the feature `hub`.
#[cfg(not(feature = "hub"))]
pub(super) fn locate(given: &Path) -> Result<Located, CliError> {
    Ok(Located::at(given))
}

/// The error for a name that nothing has.
#[cfg(feature = "hub")]
pub(super) fn unknown(name: &str) -> String {
    let fetch = match name.parse::<Reference>() {
        Ok(reference) if !name.ends_with(".gguf") || reference.quant().is_some() => {
            format!("`rfgraph pull {reference}` downloads it")
        }
        _ => "`rfgraph pull USER/REPO` downloads one from Hugging Face".into(),
    };
    let name = name.escape_debug();
    format!("no file or model is named `{name}`; `rfgraph list` shows the models that are here, {fetch}")
}

/// The arguments with llama.cpp's `-hf` written as `--hf`: clap reads `-hf` as `-h -f`. An `-hf` that is the text of
/// an option stays.
pub(super) fn spell_out(arguments: impl Iterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let takes_any_text = |option: &str| {
        let all = command.get_subcommands().flat_map(Command::get_arguments);
        all.filter(|argument| argument.is_allow_hyphen_values_set()).any(|argument| {
            let long = argument.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long));
            let short = argument.get_short().is_some_and(|short| option == format!("-{short}"));
            long || short
        })
    };
    let mut spelled: Vec<OsString> = Vec::new();
    for argument in arguments {
        let is_text = spelled.iter().any(|before| before == "--")
            || spelled.last().and_then(|before| before.to_str()).is_some_and(takes_any_text);
        spelled.push(if argument == "-hf" && !is_text { "--hf".into() } else { argument });
    }
    spelled
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn hf_is_an_option_unless_it_is_a_text() {
        let command = super::super::Cli::command();
        for (given, expected) in [
            ("run -hf a/b", "run --hf a/b"),
            ("run -t 1 -hf a/b", "run -t 1 --hf a/b"),
            ("run -p -hf", "run -p -hf"),
            ("run --prompt -hf", "run --prompt -hf"),
            ("run --stop -hf -hf a/b", "run --stop -hf --hf a/b"),
            ("run -- -hf", "run -- -hf"),
            ("run -h -f", "run -h -f"),
        ] {
            let words = given.split(' ').map(OsString::from);
            assert_eq!(spell_out(words, &command), expected.split(' ').collect::<Vec<_>>(), "{given}");
        }
    }
}
