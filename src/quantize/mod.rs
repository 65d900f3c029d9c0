//! Quantizing: writing model files with other dtypes (`file`, with a dtype for each tensor from `mix`) and measuring the
//! loss (`perplexity`).
//!
//! This folder knows files (`gguf`), the thread pool (`cpu`) and sessions (`model`). Only the command line knows it.

mod file;
mod mix;
pub mod perplexity;

pub use file::{Conversion, Quantization, QuantizeError};
pub use mix::{Mix, Recipe};
