//! Output files: each appears only when complete, and never replaces an input.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::CliError;

/// Before any work, refuses a target that is one of the inputs or cannot be replaced by a file. `what` is the target's
/// name on the command line.
pub(super) fn refuse_target<'p>(
    what: &str,
    target: &Path,
    mut read: impl Iterator<Item = &'p Path>,
) -> Result<(), CliError> {
    let Ok(target_at) = fs::canonicalize(target) else { return Ok(()) };
    let target = target.display();
    if read.any(|input| fs::canonicalize(input).is_ok_and(|input| input == target_at)) {
        let reason = format!("{what}, {target}, is the file that is read; give another name");
        return Err(CliError::Usage(reason));
    }
    // A folder cannot be replaced by a file, and a device such as /dev/null must not be.
    if !target_at.is_file() {
        return Err(CliError::Usage(format!(
            "{what}, {target}, exists and is not a file; give another name"
        )));
    }
    Ok(())
}

/// A file that gets its name only when complete; it is removed if the work fails.
pub(super) struct Unfinished {
    path: PathBuf,
    output: PathBuf,
}

impl Unfinished {
    pub(super) fn create(output: &Path) -> io::Result<(Unfinished, File)> {
        let mut name = output.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let path = output.with_file_name(name);
        let file = File::create_new(&path)?;
        Ok((Unfinished { path, output: output.to_owned() }, file))
    }

    pub(super) fn finish(self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.path, &self.output)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the renaming the temporary name no longer exists.
        let _ = fs::remove_file(&self.path);
    }
}
