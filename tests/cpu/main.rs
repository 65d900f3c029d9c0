//! Operators, steps and the executor on the CPU.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod executor;
mod parity;
mod step;
mod trace;
