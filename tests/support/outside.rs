//! Test data that is too large for the repository, or that we may not put there.

use std::path::{Path, PathBuf};

use super::skipped::skipped_for_want_of_data;

/// A file or folder of this data: in the folder that `RFGRAPH_FIXTURES` names (it holds `demo/` and `fixtures/`), or in
/// `shared/` beside the checkout. If it does not exist, the test is skipped.
pub fn outside(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("RFGRAPH_FIXTURES").map_or_else(beside, PathBuf::from).join(path);
    if path.exists() {
        return Some(path);
    }
    skipped_for_want_of_data(&format!(
        "{} is not there; RFGRAPH_FIXTURES names the folder above it",
        path.display()
    ));
    None
}
