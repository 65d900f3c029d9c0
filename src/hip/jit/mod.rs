//! Run-time compilation: a kernel's source and constants to a function on the device, and the cache of code.
//!
//! [`Compiler`] makes code and needs no device: it also checks kernels for targets that are not there. [`Jit`]
//! loads what it makes. Nothing here knows what a kernel computes.

pub mod batch;
mod cache;
mod compile;
mod compiler;
mod error;
mod functions;
mod isa;
mod key;
mod stamps;

pub use cache::Cache;
pub use compile::{compile, options};
pub use compiler::{Compiler, JitOptions};
pub use error::{JitError, describe};
pub use functions::Jit;
pub use key::Key;
