//! All that knows HIP, in three thin levels: the table of functions ([`api`]) that a platform fills, calls
//! that give a `Result`, and types that own what they made.
//!
//! Beside it stands what a plan says to a device as plain data ([`Lower`], [`Command`]). This folder knows
//! tensors; it knows no operator, no plan and no model, and serves `ops` and `exec`.

pub mod api;
mod lower;
pub mod sim;
mod target;

pub use lower::{ALIGNMENT, Arg, Command, Gemm, Launch, Lower, LowerError, Source, Variant, Which};
pub use target::{PlatformKind, Target};
