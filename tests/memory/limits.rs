//! Hostile texts, vocabularies, templates and files cost no more than promised: 64 bytes of memory for each byte of the
//! input and 64 MiB, and little time. The bodies and the limits are those of the fuzz targets.
//!
//! The counter is of the process, so tests of this file take turns (`limits::run` and `TURN`).
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(feature = "grammar")]

#[path = "../../fuzz/limits.rs"]
mod limits;

mod drawn;

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use bodies::TARGETS;
use limits::{Cost, counting};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// The time of an input, 20 times the limit of a release build: tests run beside others, and with the library's checks.
const TIME: Duration = Duration::from_secs(20);

#[test]
fn hostile_inputs_stay_within_their_limits() {
    let _turn = limits::TURN.lock().unwrap_or_else(PoisonError::into_inner);
    the_limits_can_be_exceeded();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut beyond = Vec::new();
    for (name, body) in TARGETS {
        // Pays for what is made once.
        body(b"");
        let mut files: Vec<_> = fs::read_dir(root.join("fuzz/seeds").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut accepted = 0;
        for file in files {
            let cost = Cost::of(&fs::read(&file).unwrap(), body);
            println!("{}: {cost}", file.display());
            accepted += usize::from(cost.accepted);
            if !cost.is_within(TIME) {
                beyond.push(format!("{}: {cost}", file.display()));
            }
        }
        // Refused inputs alone would cost nothing.
        assert!(accepted >= 2, "{name}: {accepted} inputs are accepted");
    }
    assert!(beyond.is_empty(), "beyond the limits:\n{}", beyond.join("\n"));
}

/// The counter sees memory of other threads, and the limits stand where they are said to.
fn the_limits_can_be_exceeded() {
    let takes = |bytes: usize| {
        Cost::of(&[0; 1024], |_| {
            std::thread::scope(|scope| drop(scope.spawn(|| drop(std::hint::black_box(vec![1u8; bytes])))));
            true
        })
    };
    assert!(takes(63 << 20).is_within(TIME));
    assert!(!takes(66 << 20).is_within(TIME));
    assert!(!Cost { time: TIME * 2, ..Cost::default() }.is_within(TIME));
}
