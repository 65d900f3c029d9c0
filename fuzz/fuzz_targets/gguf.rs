//! Any bytes as a GGUF file: never a panic, and accepted files are sound.
//!
//! ```sh
//! cargo +nightly fuzz run gguf fuzz/corpus/gguf tests/fixtures/gguf -- -max_total_time=60
//! ```
//!
//! The first folder collects new inputs; the second, with one bad file for every rule, only seeds the fuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rfgraph::gguf::check_bytes;

fuzz_target!(|bytes: &[u8]| {
    // A refusal is fine; the checks are inside the function.
    let _ = check_bytes(bytes);
});
