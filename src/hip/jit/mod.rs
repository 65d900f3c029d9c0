//! Run-time compilation: turns a kernel's source and constants into a function on the device, and caches the code.
//!
//! [`Compiler`] makes code and needs no device, so it can also check kernels for absent targets. [`Jit`] loads the
//! code. Nothing here knows what a kernel computes.

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
