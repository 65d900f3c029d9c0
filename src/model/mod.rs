//! From a GGUF file to a running model: hyper-parameters, weights, the KV cache, sessions.
//!
//! This folder knows files (`gguf`), text (`text`) and executors (`exec`). What an architecture computes
//! is in the top-level folder `graphs`, one file each, behind [`Architecture`].

mod architecture;
mod batch;
mod blocks;
mod builder;
mod embed;
mod error;
mod experts;
mod generate;
mod keys;
mod kv_cache;
mod loaded;
mod memory;
mod placement;
mod prefix;
mod session;
mod shift;
mod weights;

pub use architecture::{Architecture, ArchitectureRow, CacheShape, ModelShape};
pub use builder::{Batch, Heads, ModelBuilder, Portion, Values};
pub use embed::{Pooling, l2_normalize};
pub use error::ModelError;
pub use experts::{ExpertActivation, Experts, Gating};
pub use generate::{GenerateOptions, Generation, Stop};
pub use keys::Keys;
pub use kv_cache::{CacheLayout, CacheTypes, KvCache, SequenceId};
pub use loaded::Model;
pub use memory::MemoryNeed;
pub use placement::{DeviceChoice, Setup};
pub use session::{Logits, Next, Session, SessionOptions};
pub use shift::ContextShift;
pub use weights::GgufWeights;
