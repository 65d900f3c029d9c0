//! From a GGUF file to a running model: hyper-parameters, weights, the KV cache, sessions.
//!
//! This folder knows files (`gguf`), text (`text`) and executors (`exec`). What an architecture computes
//! is in the top-level folder `graphs`, one file each, behind [`Architecture`].

mod architecture;
mod batch;
mod builder;
mod error;
mod generate;
mod keys;
mod kv_cache;
mod loaded;
mod memory;
pub mod perplexity;
mod placement;
pub mod quantize;
mod session;
mod weights;

pub use architecture::{Architecture, ArchitectureRow, CacheShape, ModelShape};
pub use builder::{Batch, ModelBuilder, Portion};
pub use error::ModelError;
pub use generate::{GenerateOptions, Generation, Stop};
pub use keys::Keys;
pub use kv_cache::{CacheLayout, KvCache, SequenceId};
pub use loaded::Model;
pub use memory::MemoryNeed;
pub use placement::{DeviceChoice, Setup};
pub use session::{Logits, Next, Session, SessionOptions};
pub use weights::GgufWeights;
