//! Text to tokens and back, chat templates, sampling, and constrained output.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
#[cfg(feature = "grammar")]
mod constraint;
mod ends;
mod families;
mod splits;
mod templates;
mod tokenizer;
mod vocabularies;
