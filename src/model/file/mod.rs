//! The contents of a model file: hyper-parameters by key (`keys`), the table of all keys and their effects (`table`),
//! what became of a file's keys (`report`), and the weights.
//!
//! This folder knows files (`gguf`). It does not know architectures, graphs of batches, states or sessions.

mod keys;
mod report;
mod table;
mod weights;

pub use keys::Keys;
pub use report::{Assumed, KeyReport};
pub use table::{ARCHITECTURE_KEYS, Effect, FILE_KEYS, KeyRow};
pub use weights::GgufWeights;
