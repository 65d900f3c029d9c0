//! Models by name: downloads from a server that misbehaves, and the stores of several programs.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod choice;
mod download;
mod faults;
mod hostile;
#[cfg(all(feature = "cli", feature = "demo"))]
mod program;
mod refusals;
mod remove;
mod repository;
mod server;
mod store;
