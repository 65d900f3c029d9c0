//! From a GGUF file to a running model: the states of sequences (`state`), hyper-parameters and weights (`file`), the
//! graph of a batch (`build`), the interface and table of architectures (`architecture`), an opened file (`opened`),
//! and the session that computes rows (`session`). Each knows only those before it (`tests/tidy/order.rs`).
//!
//! This folder knows files (`gguf`), tokenizers and templates (`text`) and executors (`exec`). The computation of each
//! architecture is one file in the top-level folder `graphs`, behind [`Architecture`]. This folder does not know the
//! engine or the command line.

mod architecture;
mod build;
mod error;
mod file;
mod opened;
mod output;
mod session;
mod state;
mod suggested;

pub use architecture::{Architecture, ArchitectureRow, Architectures, ModelShape};
pub use build::{Batch, ExpertActivation, Experts, Gating, Head, Heads, ModelBuilder, Portion, Values};
use build::{BatchShape, GraphRequest, OutputCounts, PROMPT_ROWS};
pub use error::{ModelError, RowsError};
pub use file::{ARCHITECTURE_KEYS, Assumed, Effect, FILE_KEYS, GgufWeights, KeyReport, KeyRow, Keys};
pub use opened::Model;
pub use output::Output;
pub(crate) use session::Pooled;
pub use session::{
    ContextShift, DeviceChoice, Logits, MemoryNeed, Outputs, Pooling, RowOutput, Rows, Session,
    SessionExtras, SessionOptions, StateNeed, l2_normalize,
};
pub use state::{Aside, BLOCK_SIZE, CacheLayout, CacheTypes, PrefixEnd, Rewind, SequenceId, States};
