//! A plan's view of a device, as plain data: the [`Target`] that kernels are chosen for, and the [`Command`]s that an
//! operator adds to a [`Lower`] (kernels with their constants, grids and arguments, products, copies).
//!
//! Numbers that Rust and kernels share have their one definition here or below: element types and block formats in `tensor`, the
//! kinds that operators choose between ([`UnaryKind`] and others), sizes that a kernel is compiled with (`constants`).
//! [`tables`] writes them all into a header for kernels.
//!
//! It knows tensors. It knows no driver, no operator and no plan: `graph`, `ops` and `plan` speak of a GPU in these words
//! alone, and `hip` and `exec` carry them out.

pub(crate) mod constants;
mod kinds;
mod lower;
pub mod tables;
mod target;

pub use kinds::{BinaryKind, ChosenWeights, RopeKind, UnaryKind};
pub(crate) use lower::ALIGNMENT;
pub use lower::{Arg, Command, Gemm, Launch, Lower, LowerError, NamedArg, Source, Variant, Which};
pub use target::{PlatformKind, Target};
