//! Model code: one architecture a file, written against the public API only.
//!
//! A file here says what an architecture is, in the order of the computation, with GGUF's names for
//! tensors and metadata. Adding one takes a file and a line of the table.

mod llama;

pub use llama::Llama;

use crate::model::ArchitectureRow;

/// The architectures, by `general.architecture`.
pub const TABLE: &[ArchitectureRow] = &[ArchitectureRow { name: "llama", read: Llama::read }];
