//! The contents of a model file: hyper-parameters by key, the architecture that reads them, and the weights.
//!
//! This folder knows files (`gguf`) and text. It does not know graphs of batches, states or sessions.

mod architecture;
mod keys;
mod opened;
mod suggested;
mod weights;

pub use architecture::{Architecture, ArchitectureRow, Architectures, ModelShape};
pub use keys::Keys;
pub use opened::Model;
pub use weights::GgufWeights;
