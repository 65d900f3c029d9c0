//! `--trace FILE`: a timeline for Perfetto.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::error::CliError;
use super::options::ModelArg;
use super::output::write_file;
use super::output_file::refuse_target;
use crate::exec::Trace;
use crate::model::{Model, Session};

/// Most spans in a device's timeline: about 40 MB of JSON, which Perfetto opens in seconds.
const MOST_SPANS: usize = 200_000;

/// Output file of the timeline.
#[derive(Debug, Args)]
pub(super) struct TraceArg {
    #[allow(rustdoc::bare_urls, reason = "this is the text of --help")]
    /// Write a timeline of the steps to FILE, to open with https://ui.perfetto.dev. A GPU is slower meanwhile: its steps
    /// are timed one by one
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

impl TraceArg {
    pub(super) fn is_given(&self) -> bool {
        self.trace.is_some()
    }

    /// The file, which must not replace a file of the model.
    pub(super) fn file(&self, model: &Model) -> Result<Option<TraceFile<'_>>, CliError> {
        let Some(path) = &self.trace else { return Ok(None) };
        refuse_target("--trace", path, model.gguf().paths())?;
        Ok(Some(TraceFile(path)))
    }
}

/// The timeline's file, not written yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceFile<'p>(&'p Path);

impl TraceFile<'_> {
    /// Starts the timelines of a session's devices.
    pub(super) fn start(self, session: &mut Session) {
        session.start_timelines(Instant::now(), MOST_SPANS);
    }

    /// Writes the timelines.
    pub(super) fn finish(self, session: &Session, model: &ModelArg) -> Result<(), CliError> {
        let trace = Trace::new(session.executors()).about("model", model.label());
        write_file(self.0, |out| trace.write(out))?;
        tracing::info!("wrote the timeline to {}; https://ui.perfetto.dev opens it", self.0.display());
        Ok(())
    }
}
