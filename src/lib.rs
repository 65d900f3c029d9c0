//! rfgraph: a graph-compiled tensor runtime. An experimental alpha.
#![deny(missing_docs)]

pub mod cpu;
pub mod gguf;
pub mod tensor;
pub mod text;
