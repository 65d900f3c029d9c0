//! Why a command ended early, and the exit code that says so.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::remedies::with_options;
use crate::gguf::GgufError;
use crate::model::ModelError;
use crate::sampling::ParamError;
use crate::text::TemplateError;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Options that do not go together, which clap cannot know.
    #[error("{0}")]
    Usage(String),
    /// A file that is no model.
    #[error(transparent)]
    File(#[from] GgufError),
    /// A model that cannot be loaded or run.
    #[error("{}", with_options(.0, .0.remedies()))]
    Model(#[source] Box<ModelError>),
    /// A chat template that cannot be rendered.
    #[error("{}", with_options(.0, .0.remedies()))]
    Template(#[from] TemplateError),
    /// Sampling options out of their range.
    #[error("{0}")]
    Sampling(#[from] ParamError),
    /// A file that cannot be read or written.
    #[error("cannot {verb} {}: {source}", path.display())]
    Path {
        /// Read or write.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Text that has a form the command cannot use.
    #[error("{0}")]
    Input(String),
    /// Kernels that do not compile, or compile to what they should not.
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

impl CliError {
    /// Tells standard error, and gives the exit code. A reader that closed the pipe has all it wanted:
    /// that ends quietly and is no failure.
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

/// A line for standard error. Where that is closed there is nobody to tell.
pub(super) fn eprintln_quietly(line: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "{line}");
}
