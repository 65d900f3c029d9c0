//! A plan's view of a device, as plain data: the [`Target`] that kernels are chosen for, and the [`Command`]s that an
//! operator adds to a [`Lower`] (kernels with their constants, grids and arguments, products, copies).
//!
//! Numbers that Rust and kernels share are defined once, here or below: element types and block formats in `tensor`,
//! enums that operators pass to kernels ([`UnaryKind`] and others), sizes that are fixed in a kernel (`constants`).
//! [`tables`] writes them all into a header for kernels.
//!
//! It knows tensors, but no drivers, operators or plans: `graph`, `ops` and `plan` describe work for a GPU with these
//! types only, and `hip` and `exec` execute it.

pub(crate) mod constants;
mod kinds;
mod lower;
pub mod tables;
mod target;

pub use kinds::{BinaryKind, ChosenWeights, KeyHeads, RopeKind, UnaryKind};
pub(crate) use lower::ALIGNMENT;
pub use lower::{Arg, Command, Gemm, Launch, Lower, LowerError, NamedArg, Source, Variant, Which};
pub use target::{PlatformKind, Target};
