//! What a plan says of a device, as plain data: the [`Target`] that kernels are chosen for, and the [`Command`]s that an
//! operator adds to a [`Lower`] (kernels with their constants, grids and arguments, products, copies).
//!
//! It knows tensors. It knows no driver, no operator and no plan: `graph`, `ops` and `plan` speak of a GPU in these words
//! alone, and `hip` and `exec` carry them out.

mod lower;
mod target;

pub(crate) use lower::ALIGNMENT;
pub use lower::{Arg, Command, Gemm, Launch, Lower, LowerError, Source, Variant, Which};
pub use target::{PlatformKind, Target};
