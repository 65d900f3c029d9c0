//! The HIP layer, in three thin levels: the table of functions ([`api`]) that a platform fills, calls that return a
//! `Result`, and types that own the resources they create.
//!
//! It knows tensors and the plain data of `device`. It knows no operators, plans or models, and serves `exec`.

// Public because `tests/hip`, a crate of its own, tests these modules one by one.
#[doc(hidden)]
pub mod api;
mod blas;
#[doc(hidden)]
pub mod code_object;
mod context;
mod error;
mod event;
mod graph;
#[doc(hidden)]
pub mod jit;
mod memory;
mod module;
#[doc(hidden)]
pub mod platform;
mod probe;
#[doc(hidden)]
pub mod sources;
mod stream;

pub(crate) use blas::BlasHandle;
pub use context::{Context, Pace, Versions};
pub use error::HipError;
pub(crate) use event::Event;
pub(crate) use graph::GraphExec;
pub(crate) use jit::Jit;
pub use jit::{JitError, JitOptions};
pub(crate) use memory::{DeviceMemory, PinnedMemory};
pub(crate) use module::{Function, Module};
pub use platform::LoadError;
#[cfg(feature = "cli")]
pub(crate) use probe::DEADLINE;
pub use probe::{Device, DeviceRequest, PlatformReport, Probe, ProbeError, ProbeReport, Selected, select};
pub use stream::Priority;
#[doc(hidden)]
pub use stream::Stream;
