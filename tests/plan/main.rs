//! Plans: of models, of random graphs, damaged ones, and their printed form.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod models;
mod mutations;
mod random;
mod show;
