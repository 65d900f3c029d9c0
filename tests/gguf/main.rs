//! The GGUF format: reading, writing, and damaged files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_files;
mod files;
mod mutations;
