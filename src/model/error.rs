//! Errors of loading and running a model.
//!
//! `engine` returns the same type, since most of its errors come from a session. Three variants are its own: `Thread`,
//! `AnswerOver` and `OutputMismatch`.

use super::Output;
use crate::Remedy;
use crate::device::PlatformKind;
use crate::exec::ExecError;
use crate::gguf::{GgufError, MetadataError};
use crate::graph::GraphError;
use crate::hip::{HipError, ProbeError};
use crate::ops::KvWrite;
use crate::plan::CompileError;
use crate::sampling::{ParamError, SampleError};
use crate::tensor::DType;
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
    /// Metadata keys that the table of keys does not have. Ignoring them might give wrong answers.
    #[error("the file has keys that rfgraph's `{architecture}` does not know: {}", names.join(", "))]
    UnknownKeys {
        /// The architecture.
        architecture: String,
        /// The keys.
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
    /// A context of more tokens than the model has positions for: learned ones, or such as its scaling is known for.
    #[error(
        "a context of {n_ctx} tokens is more than the {n_positions} positions that are known for the model; give a \
         smaller context, at most {n_positions}, or 0 for the trained size"
    )]
    Positions {
        /// The requested context in tokens.
        n_ctx: usize,
        /// The number of positions.
        n_positions: usize,
    },
    /// A file with a pooling that a session does not support.
    #[error("{key} is {value}, {}; expected 0..=3, or a chosen pooling in its place",
        if *value == 4 { "a score for pairs of texts (rank), which is not supported" } else { "an unknown pooling type" })]
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
         {n_ctx_train}; give {}a shorter prompt, or for an answer a context shift",
        if n_ctx < n_ctx_train { "a larger context, " } else { "" }
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
    /// Rows that do not form a step.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A sequence that is not open.
    #[error("sequence {sequence} is not open")]
    ClosedSequence {
        /// The number of the sequence.
        sequence: usize,
    },
    /// All sequences of the session are open.
    #[error("all {n_sequences} sequences of the session are open")]
    NoFreeSequence {
        /// The number of sequences of the session.
        n_sequences: usize,
    },
    /// Tokens are needed, and the sequence has an embedding row.
    #[error("row {row} of sequence {sequence} is an embedding, which has no token")]
    EmbeddingRow {
        /// The number of the sequence.
        sequence: usize,
        /// The number of the first embedding row.
        row: usize,
    },
    /// No slot of recurrent state is free.
    #[error("all {n_slots} slots of recurrent state are held")]
    NoFreeSlot {
        /// The number of slots.
        n_slots: usize,
    },
    /// A dtype that a KV cache cannot have.
    #[error("a KV cache cannot be of {dtype}; give a supported cache type: {}", KvWrite::TYPES.map(DType::name).join(", "))]
    CacheType {
        /// The requested dtype.
        dtype: DType,
    },
    /// A ubatch of no tokens.
    #[error("a ubatch of 0 tokens computes nothing; give a larger ubatch")]
    EmptyUbatch,
    /// A thread cannot be started.
    #[error("the engine's thread cannot be started: {error}")]
    Thread {
        /// The system's error.
        #[source]
        error: std::io::Error,
    },
    /// An output of no tokens.
    #[error("a prompt of no tokens has no {wanted}")]
    NoTokens {
        /// The wanted output.
        wanted: &'static str,
    },
    /// Outputs before a step was computed, or after a step that failed.
    #[error("nothing was computed yet")]
    NothingComputed,
    /// Logits of a step in which no row wanted them.
    #[error("the last step gave no logits")]
    NoLogits,
    /// A context shift that keeps all tokens of the context.
    #[error(
        "a context shift that keeps {keep} tokens leaves no room in a context of {n_ctx}: keep fewer, or give a larger \
         context"
    )]
    ShiftKeepsAll {
        /// The number of kept tokens.
        keep: usize,
        /// The size of the context in tokens.
        n_ctx: usize,
    },
    /// A context shift of a model with recurrent state.
    #[error(
        "the context of {n_ctx} tokens is full, and a context shift cannot make room: {architecture} models keep \
         recurrent state, which holds all tokens and cannot lose some"
    )]
    ShiftOfRecurrent {
        /// The size of the context in tokens.
        n_ctx: usize,
        /// The architecture.
        architecture: String,
    },
    /// The environment names a GPU platform that does not exist.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// An empty stop string.
    #[error("a stop string is empty: every answer would end before it begins")]
    EmptyStopString,
    /// A generation that has ended.
    #[error("the answer is over; begin another generation")]
    AnswerOver,
    /// A generation received another kind of output than the wanted one.
    #[error("the generation wants {wanted:?}, but received {given}")]
    OutputMismatch {
        /// The output that [`Generation::wants`](crate::engine::Generation::wants) returned.
        wanted: Output,
        /// The kind of the given output.
        given: &'static str,
    },
}

/// The reason why rows do not form a step.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// No rows, or more than a step takes.
    #[error("a step of {n_rows} rows; the session takes 1 to {most}")]
    Count {
        /// The number of rows.
        n_rows: usize,
        /// The largest number of rows.
        most: usize,
    },
    /// [`Rows`](crate::model::Rows) without a row.
    #[error("rows without a token or embedding give nothing")]
    Empty,
    /// Values that do not fill whole embedding rows.
    #[error("{n_values} numbers do not make whole embeddings of {n_embd}")]
    PartialEmbedding {
        /// The number of values.
        n_values: usize,
        /// The width of an embedding.
        n_embd: usize,
    },
    /// An embedding with a value that is infinite or NaN.
    #[error("number {index} of embedding row {row} is {value}")]
    NotFinite {
        /// The number of the embedding row.
        row: usize,
        /// The index in the row.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Positions for a model whose rows have one.
    #[error("this model's rows carry one position, their place in the sequence")]
    OnePosition,
    /// More or fewer positions than rows.
    #[error("{n_positions} positions for {n_rows} rows")]
    PositionCount {
        /// The number of positions.
        n_positions: usize,
        /// The number of rows.
        n_rows: usize,
    },
    /// A negative position.
    #[error("position {position} of a row is below 0")]
    NegativePosition {
        /// The position.
        position: i32,
    },
    /// [`Output::TopK`] of no token, or of more tokens than there are.
    #[error("top-k of {k} is out of range 1..={n_vocab}")]
    TopK {
        /// The number of wanted logits.
        k: usize,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
}

impl ModelError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            ModelError::Exec(error) => error.remedies(),
            ModelError::Device { error, .. } => error.remedies(),
            ModelError::Probe(error) => error.remedies(),
            ModelError::Template(error) => error.remedies(),
            ModelError::Context { .. } | ModelError::Positions { .. } => &[Remedy::SmallerContext],
            ModelError::ContextFull { n_ctx, n_ctx_train, .. } if n_ctx >= n_ctx_train => {
                &[Remedy::ContextShift]
            }
            ModelError::ContextFull { .. } => &[Remedy::LargerContext, Remedy::ContextShift],
            ModelError::ShiftKeepsAll { .. } => &[Remedy::LargerContext],
            ModelError::CacheFull { .. } => &[Remedy::LargerPool],
            ModelError::CacheType { .. } => &[Remedy::SupportedCacheType],
            ModelError::EmptyUbatch => &[Remedy::LargerUbatch],
            ModelError::Pooling { .. } => &[Remedy::ChosenPooling],
            _ => &[],
        }
    }
}
