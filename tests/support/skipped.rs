//! Skipped tests say so where it is read, since libtest hides the output of passing tests.

use std::fs::OpenOptions;
use std::io::Write;

/// Reports that this thread's test is skipped: on standard error, past libtest's capture, and as a line in the file
/// that `RFGRAPH_SKIPPED` names, from which `.ci/run` counts them.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}::{}: {reason}\n", env!("CARGO_CRATE_NAME"), thread.name().unwrap_or("?"));
    let _ = std::io::stderr().write_all(format!("SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os("RFGRAPH_SKIPPED") {
        // One write of a short line in append mode: lines of concurrent tests do not mix.
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Like [`skipped`], for missing test data; with `RFGRAPH_REQUIRE_FIXTURES=1` the test fails instead.
pub fn skipped_for_want_of_data(reason: &str) {
    let required = std::env::var("RFGRAPH_REQUIRE_FIXTURES").is_ok_and(|value| value == "1");
    assert!(!required, "RFGRAPH_REQUIRE_FIXTURES=1, but {reason}");
    skipped(reason);
}
