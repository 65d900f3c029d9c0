//! The file format: reading, writing, and files that are damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_files;
mod files;
mod mutations;
