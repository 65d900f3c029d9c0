//! Run-time compilation: a kernel's source and constants to a code object, and the cache of them.
//!
//! [`Compiler`] makes code and needs no device; it is what checks kernels for targets that are not there.

mod cache;
mod compile;
mod compiler;
mod error;
mod isa;
mod key;

pub use cache::Cache;
pub use compile::{compile, options};
pub use compiler::{Compiler, JitOptions};
pub use error::{JitError, describe};
pub use key::Key;
