//! Plans: of models and of random graphs, damaged plans, and their printed form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod models;
mod mutations;
mod random;
mod show;
