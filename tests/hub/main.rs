//! Models by name: downloads from a server that misbehaves, and the stores of several programs.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod choice;
mod copy;
mod download;
mod faults;
mod hostile;
#[cfg(all(feature = "cli", feature = "demo"))]
mod program;
mod refusals;
mod remove;
mod repository;
#[cfg(all(feature = "cli", feature = "demo", feature = "serve"))]
mod served;
mod server;
mod store;
