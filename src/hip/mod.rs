//! All that knows HIP, in three thin levels: the table of functions ([`api`]) that a platform fills, calls
//! that give a `Result`, and types that own what they made.
//!
//! Beside it stands what a plan says to a device as plain data ([`Lower`], [`Command`]). This folder knows
//! tensors; it knows no operator, no plan and no model, and serves `ops` and `exec`.

pub mod api;
mod blas;
pub mod code_object;
mod context;
mod error;
mod event;
mod graph;
pub mod jit;
mod lower;
mod memory;
mod module;
pub mod platform;
mod probe;
pub mod sim;
pub mod sources;
mod stream;
mod target;

pub use blas::BlasHandle;
pub use context::{Context, Versions};
pub use error::HipError;
pub use event::Event;
pub use graph::GraphExec;
pub use jit::{Jit, JitError, JitOptions};
pub use lower::{ALIGNMENT, Arg, Command, Gemm, Launch, Lower, LowerError, Source, Variant, Which};
pub use memory::{DeviceMemory, PinnedMemory};
pub use module::{Function, Module};
pub use probe::{DEADLINE, Device, PlatformReport, Probe, ProbeError, Report, Request, Selected, select};
pub use stream::{Priority, Stream};
pub use target::{PlatformKind, Target};
