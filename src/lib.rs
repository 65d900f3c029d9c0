//! rfgraph: a graph-compiled tensor runtime. An experimental alpha.
#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod exec;
pub mod gguf;
pub mod graph;
#[path = "../graphs/mod.rs"]
pub mod graphs;
pub mod model;
pub mod ops;
pub mod plan;
pub mod tensor;
pub mod text;
