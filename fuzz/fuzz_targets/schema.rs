//! Any text as a JSON schema: never a panic, an abort or a hang.
//!
//! ```sh
//! cargo +nightly fuzz run schema fuzz/corpus/schema fuzz/seeds/schema -- -runs=1000000 -timeout=1 -rss_limit_mb=1024
//! ```
#![no_main]

#[path = "../bodies/text.rs"]
#[allow(dead_code, reason = "each target runs one body")]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bodies::schema(bytes));
