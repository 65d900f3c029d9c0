//! Test data of the repository.

use std::path::{Path, PathBuf};

/// A file or folder of `tests/fixtures`: of the checkout that the test was built in, or, where that is not on this
/// machine, of the folder that the test was started in.
pub fn inside(path: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if built.exists() { built } else { Path::new(".") };
    root.join("tests/fixtures").join(path)
}
