//! Model files with their matrices in other types: writing them (`file`, with a type for each tensor from `mix`) and
//! measuring the loss (`perplexity`).
//!
//! This folder knows files (`gguf`), the thread pool (`cpu`), and sessions for what it measures. No folder but the
//! command line knows it.

mod file;
mod mix;
pub mod perplexity;

pub use file::{Conversion, Quantization, QuantizeError};
pub use mix::{Mix, Recipe};
