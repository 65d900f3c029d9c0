//! The contents of a model file: hyper-parameters by key (`keys`), the table of all keys and their effects (`table`)
//! and what became of a file's keys (`report`), the architecture that reads them, and the weights.
//!
//! This folder knows files (`gguf`) and text. It does not know graphs of batches, states or sessions.

mod architecture;
mod keys;
mod opened;
mod report;
mod suggested;
mod table;
mod weights;

pub use architecture::{Architecture, ArchitectureRow, Architectures, ModelShape};
pub use keys::Keys;
pub use opened::Model;
pub use report::{Assumed, KeyReport};
pub use table::{ARCHITECTURE_KEYS, Effect, FILE_KEYS, KeyRow};
pub use weights::GgufWeights;
