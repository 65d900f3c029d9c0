//! The command line program, run as users run it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "cli")]
mod answers;
#[cfg(all(feature = "cli", feature = "demo", target_os = "linux"))]
mod chat;
#[cfg(all(feature = "cli", feature = "demo"))]
mod commands;
#[cfg(feature = "cli")]
mod help;
#[cfg(all(feature = "cli", feature = "demo"))]
mod keys;
#[cfg(all(feature = "cli", feature = "demo"))]
mod plans;
