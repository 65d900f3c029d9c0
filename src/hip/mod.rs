//! The HIP layer, in three thin levels: the table of functions ([`api`]) that a platform fills, calls that return a
//! `Result`, and types that own the resources they create.
//!
//! It knows tensors and the plain data of `device`. It knows no operators, plans or models, and serves `exec`.

pub mod api;
mod blas;
pub mod code_object;
mod context;
mod error;
mod event;
mod graph;
pub mod jit;
mod memory;
mod module;
pub mod platform;
mod probe;
pub mod sources;
mod stream;

pub use blas::BlasHandle;
pub use context::{Context, Pace, Versions};
pub use error::HipError;
pub use event::Event;
pub use graph::GraphExec;
pub use jit::{Jit, JitError, JitOptions};
pub use memory::{DeviceMemory, PinnedMemory};
pub use module::{Function, Module};
pub use probe::{DEADLINE, Device, PlatformReport, Probe, ProbeError, Report, Request, Selected, select};
pub use stream::{Priority, Stream};
