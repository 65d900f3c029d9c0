//! Any bytes as a GGUF file: never a panic, and what is accepted is sound.
//!
//! ```sh
//! cargo +nightly fuzz run gguf fuzz/corpus/gguf tests/fixtures/gguf -- -max_total_time=60
//! ```
//!
//! The first folder collects what is found; the second, one bad file for every rule, only starts it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rfgraph::gguf::check_bytes;

fuzz_target!(|bytes: &[u8]| {
    // A refusal is fine; the checks are inside.
    let _ = check_bytes(bytes);
});
