//! Any bytes as a tokenizer's vocabulary: never a panic, an abort or a hang.
//!
//! ```sh
//! cargo +nightly fuzz run vocabulary fuzz/corpus/vocabulary fuzz/seeds/vocabulary -- -runs=1000000 -timeout=1 -rss_limit_mb=1024
//! ```
#![no_main]

#[path = "../bodies/text.rs"]
#[allow(dead_code, reason = "each target runs one body")]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bodies::vocabulary(bytes));
