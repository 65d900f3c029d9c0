//! Test data of the repository.

use std::path::{Path, PathBuf};

/// A file or folder of `tests/fixtures`, in the checkout in which the test was built or, if that does not exist on this
/// machine, in the folder in which the test was started.
pub fn inside(path: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if built.exists() { built } else { Path::new(".") };
    root.join("tests/fixtures").join(path)
}
