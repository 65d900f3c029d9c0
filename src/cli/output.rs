//! Writing results to standard output and to files.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::error::CliError;
use super::output_file::Unfinished;

/// Writes text to standard output.
pub(super) fn print(text: impl std::fmt::Display) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes bytes to standard output.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes one JSON value and a newline to standard output.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Writes a file that appears under its name only when it is complete.
pub(super) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CliError> {
    let failed = |source| CliError::Path { verb: "write", path: path.to_owned(), source };
    let (unfinished, file) = Unfinished::create(path).map_err(failed)?;
    let mut out = io::BufWriter::new(&file);
    write(&mut out).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    unfinished.finish(&file).map_err(failed)
}
