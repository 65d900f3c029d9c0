//! Text to tokens and back, chat templates, sampling, and constrained output.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
#[cfg(feature = "grammar")]
mod constraint;
mod conversations;
mod ends;
mod limits;
mod literal;
mod splits;
mod template_bounds;
mod template_cases;
mod template_of_model;
mod template_snippets;
mod templates;
mod tokenizer;
#[cfg(feature = "grammar")]
mod tools;
mod trained_vocabularies;
mod vocabularies;
