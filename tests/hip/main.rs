//! The GPU path: on simulated devices, on a real one if available, and with fake libraries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod architectures;
mod code_object;
mod delta_net;
mod deterministic;
#[cfg(feature = "demo")]
mod device;
mod exit;
mod experts;
mod faults;
// These tests read the log, and the logger is part of the command line.
#[cfg(feature = "cli")]
mod jit;
#[cfg(all(feature = "cli", feature = "demo"))]
mod kernels;
mod own_operator;
mod parity;
mod probe;
#[cfg(feature = "demo")]
mod run;
mod safety;
mod signatures;
mod sim;
mod trace;
mod unload;
mod views;
