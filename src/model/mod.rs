//! From a GGUF file to a running model: hyper-parameters and weights (`file`), the graph of a batch (`build`), the
//! states of sequences (`state`), and the session that computes rows (`session`).
//!
//! This folder knows files (`gguf`), tokenizers and templates (`text`) and executors (`exec`). The computation of each
//! architecture is one file in the top-level folder `graphs`, behind [`Architecture`]. This folder does not know the
//! engine or the command line.

mod build;
mod error;
mod file;
mod session;
mod state;

pub use build::{
    Batch, ExpertActivation, Experts, Gating, Head, Heads, ModelBuilder, Output, Portion, Values,
};
use build::{BatchShape, GraphRequest, OutputCounts, PROMPT_ROWS};
pub use error::{ModelError, RowsError};
pub use file::{
    ARCHITECTURE_KEYS, Architecture, ArchitectureRow, Architectures, Assumed, Effect, FILE_KEYS, GgufWeights,
    KeyReport, KeyRow, Keys, Model, ModelShape,
};
pub(crate) use session::Pooled;
pub use session::{
    ContextShift, DeviceChoice, Logits, MemoryNeed, Outputs, Pooling, RowOutput, Rows, Session,
    SessionExtras, SessionOptions, StateNeed, l2_normalize,
};
pub use state::{Aside, BLOCK_SIZE, CacheLayout, CacheTypes, PrefixEnd, Rewind, SequenceId, States};
