//! Any text as a JSON schema: never a panic, an abort or a hang, and little memory. `docs/fuzzing.md` says how to run it.
#![no_main]

#[path = "../bodies/text.rs"]
#[allow(dead_code, reason = "each target runs one body")]
mod bodies;
#[path = "../limits.rs"]
mod limits;

use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: limits::counting::Counting = limits::counting::Counting;

fuzz_target!(
    // The first input pays for what is made once.
    init: { let _ = bodies::schema(b""); },
    |bytes: &[u8]| limits::run("schema", bytes, bodies::schema, limits::TIME)
);
