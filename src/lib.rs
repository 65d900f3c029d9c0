//! rfgraph: a graph-compiled tensor runtime. An experimental alpha.
//!
//! Write a graph with [`graph::Graph`], compile it with [`plan::compile`], run it with
//! [`exec::CpuExecutor`]; or open a GGUF file with [`model::Model`] and take its tokens from a
//! [`model::Session`]. The README's two programs show both; `ARCHITECTURE.md` says how it fits together.
#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod device;
pub mod engine;
pub mod exec;
pub mod gguf;
pub mod graph;
#[path = "../graphs/mod.rs"]
pub mod graphs;
pub mod hip;
pub mod model;
pub mod ops;
pub mod plan;
pub mod quantize;
pub mod sampling;
pub mod tensor;
pub mod text;

/// The README's programs are tests.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And so is that of the page on sessions.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../docs/sessions.md")]
struct Sessions;
