//! Test data that is too large for the repository, or not ours to put there.

use std::path::{Path, PathBuf};

/// A file or folder of it: in the folder that `RFGRAPH_FIXTURES` names (it holds `demo/` and `fixtures/`), or
/// in `shared/` beside the checkout. Says loudly when it is not there; the test is then skipped.
pub fn outside(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("RFGRAPH_FIXTURES").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there; RFGRAPH_FIXTURES names the folder above it", path.display());
    None
}
