//! What a model file says: hyper-parameters by key, the architecture that reads them, and the weights.
//!
//! This folder knows files (`gguf`) and text. It knows no graph of a batch, no state and no session.

mod architecture;
mod keys;
mod opened;
mod weights;

pub use architecture::{Architecture, ArchitectureRow, Architectures, ModelShape};
pub use keys::Keys;
pub use opened::Model;
pub use weights::GgufWeights;
