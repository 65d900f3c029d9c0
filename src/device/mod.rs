//! A plan's view of a device, as plain data: the [`Target`] that kernels are chosen for, and the [`Command`]s that an
//! operator adds to a [`Lower`] (kernels with their constants, grids and arguments, products, copies).
//!
//! It knows tensors, but no drivers, operators or plans. `graph`, `ops` and `plan` describe GPU work in these types
//! only; `hip` and `exec` carry it out.

mod lower;
mod target;

pub(crate) use lower::ALIGNMENT;
pub use lower::{Arg, Command, Gemm, Launch, Lower, LowerError, Source, Variant, Which};
pub use target::{PlatformKind, Target};
