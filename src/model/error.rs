//! Errors of loading and running a model.

use crate::Remedy;
use crate::device::PlatformKind;
use crate::exec::ExecError;
use crate::gguf::{GgufError, MetadataError};
use crate::graph::GraphError;
use crate::hip::HipError;
use crate::plan::CompileError;
use crate::sampling::{ParamError, SampleError};
use crate::text::{TemplateError, TokenizerError};

/// An error of loading or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read as GGUF.
    #[error(transparent)]
    File(#[from] GgufError),
    /// A metadata key that is missing or has another type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A metadata value that is out of range or contradicts others.
    #[error("{key} is {value}: {reason}")]
    Value {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// The reason why it is refused.
        reason: String,
    },
    /// An architecture that rfgraph does not support.
    #[error("the file's architecture is `{name}`; rfgraph runs {}", known.join(", "))]
    Architecture {
        /// `general.architecture`.
        name: String,
        /// The supported architectures.
        known: Vec<&'static str>,
    },
    /// Tensors that the architecture's graph does not use. Ignoring them would give wrong answers.
    #[error("the file holds tensors that rfgraph's `{architecture}` does not know: {}", names.join(", "))]
    UnknownTensors {
        /// The architecture.
        architecture: String,
        /// The first few of the tensors.
        names: Vec<String>,
    },
    /// Metadata keys that the architecture does not read. Ignoring them might give wrong answers.
    #[error("the file has keys that rfgraph's `{architecture}` does not know: {}", names.join(", "))]
    UnknownKeys {
        /// The architecture.
        architecture: String,
        /// The first few of the keys.
        names: Vec<String>,
    },
    /// The file's tensors do not fit the architecture's graph.
    #[error("{0}")]
    Graph(#[from] GraphError),
    /// The graph cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The plan cannot be run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Logits without a token that could be chosen.
    #[error("the model gave logits that no token can be chosen from: {0}")]
    Sample(#[from] SampleError),
    /// Parameters of a sampler that are out of range.
    #[error(transparent)]
    Sampling(#[from] ParamError),
    /// A grammar or schema that cannot constrain the answer.
    #[cfg(feature = "grammar")]
    #[error(transparent)]
    Constraint(#[from] crate::text::ConstraintError),
    /// A context of more tokens than can be counted.
    #[error(
        "a context of {n_ctx} tokens for each of {n_sequences} sequence(s) does not fit: a KV cache has at most \
         {most} slots; give a smaller context"
    )]
    Context {
        /// Tokens of a sequence.
        n_ctx: usize,
        /// Sequences at a time.
        n_sequences: usize,
        /// Slots that a cache may have.
        most: usize,
    },
    /// A context of more tokens than the model has positions for.
    #[error(
        "a context of {n_ctx} tokens is more than the {n_positions} positions that the model has learned; give a \
         smaller context, at most {n_positions}, or 0 for the trained size"
    )]
    Positions {
        /// Tokens that were asked for.
        n_ctx: usize,
        /// Positions that there are.
        n_positions: usize,
    },
    /// A file whose pooling is not one that a session does.
    #[error("{key} is {value}, an unknown pooling type; expected 0..=3, or a chosen pooling in its place")]
    Pooling {
        /// The metadata key.
        key: String,
        /// Its value.
        value: u64,
    },
    /// A GPU that cannot be opened.
    #[error("device {ordinal} of platform `{platform}` cannot be used: {error}")]
    Device {
        /// The platform of the device.
        platform: PlatformKind,
        /// The device's number.
        ordinal: u32,
        /// The error of the platform's library.
        #[source]
        error: HipError,
    },
    /// More tokens than fit the context.
    #[error(
        "the context is full: {wanted} tokens do not fit a context of {n_ctx}, and the model was trained for \
         {n_ctx_train}; give a larger context"
    )]
    ContextFull {
        /// Tokens that the context would hold.
        wanted: usize,
        /// The size of the context in tokens.
        n_ctx: usize,
        /// Tokens that the model was trained for.
        n_ctx_train: usize,
    },
    /// Other sequences hold the blocks that this one needs.
    #[error(
        "the cache is full: {needed} more tokens are needed, and {free} of {total} are free (close a sequence or put one \
         aside, or make the session for more tokens in all)"
    )]
    CacheFull {
        /// Tokens that need room, in whole blocks.
        needed: usize,
        /// Tokens that fit the free blocks.
        free: usize,
        /// Tokens that fit the pool.
        total: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside of the vocabulary of {n_vocab}")]
    Token {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// A session that cannot be created, or an invalid use of one.
    #[error("{0}")]
    Session(String),
}

impl ModelError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            ModelError::Exec(error) => error.remedies(),
            ModelError::Device { error, .. } => error.remedies(),
            ModelError::Template(error) => error.remedies(),
            ModelError::Context { .. } | ModelError::Positions { .. } => &[Remedy::SmallerContext],
            ModelError::ContextFull { .. } => &[Remedy::LargerContext],
            ModelError::Pooling { .. } => &[Remedy::ChosenPooling],
            _ => &[],
        }
    }
}
