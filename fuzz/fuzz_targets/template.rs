//! Any bytes as a chat template: never a panic, an abort or a hang.
//!
//! ```sh
//! cargo +nightly fuzz run template fuzz/corpus/template tests/fixtures/text/templates/real -- -runs=1000000 -timeout=1 -rss_limit_mb=512
//! ```
#![no_main]

#[path = "../bodies/template.rs"]
mod body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| body::template(bytes));
