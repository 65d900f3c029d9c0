//! Errors of commands, and their exit codes.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::remedies::with_options;
use crate::gguf::GgufError;
#[cfg(feature = "hub")]
use crate::hub::HubError;
use crate::model::ModelError;
use crate::sampling::ParamError;
use crate::text::TemplateError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Incompatible options that clap cannot check.
    #[error("{0}")]
    Usage(String),
    /// A file that is not a model.
    #[error(transparent)]
    File(#[from] GgufError),
    /// A model that cannot be loaded or run.
    #[error("{}", with_options(.0, .0.remedies()))]
    Model(#[source] Box<ModelError>),
    /// A chat template that cannot be rendered.
    #[error("{}", with_options(.0, .0.remedies()))]
    Template(#[from] TemplateError),
    /// A model that cannot be found, downloaded or deleted.
    #[cfg(feature = "hub")]
    #[error("{0}")]
    Hub(#[source] Box<HubError>),
    /// Sampling options out of range.
    #[error("{0}")]
    Sampling(#[from] ParamError),
    /// A file that cannot be read or written.
    #[error("cannot {verb} {}: {source}", path.display())]
    Path {
        /// The verb: read or write.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Invalid text input.
    #[error("{0}")]
    Input(String),
    /// Kernels that do not compile, or that fail a check.
    #[error("{0}")]
    Check(String),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> CliError {
        CliError::Model(Box::new(error))
    }
}

#[cfg(feature = "hub")]
impl From<HubError> for CliError {
    fn from(error: HubError) -> CliError {
        match error {
            HubError::Stopped => CliError::Interrupted,
            other => CliError::Hub(Box::new(other)),
        }
    }
}

impl CliError {
    /// Prints to standard error, and returns the exit code. A reader that closed the pipe has read enough: exits
    /// silently with success.
    pub(super) fn report(&self) -> ExitCode {
        let code = match self {
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            CliError::Interrupted => return ExitCode::from(130),
            CliError::Usage(_) | CliError::Sampling(_) => 2,
            _ => 1,
        };
        // The message alone: it holds the texts of its sources.
        eprintln_quietly(&format!("error: {self}"));
        ExitCode::from(code)
    }
}

/// Prints a line to standard error, ignoring a closed one.
pub(super) fn eprintln_quietly(line: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "{line}");
}
