//! Between text and tokens: tokenizers, chat templates, samplers.
//!
//! This folder reads its tables from a GGUF file's metadata. It knows no tensor, no graph and no
//! device.
//!
//! [`VocabData`] is a vocabulary as a file states it; [`Tokenizer`] is that vocabulary checked and
//! indexed, for one of two algorithms: byte-level byte-pair encoding (`bpe`, after its pre-tokenizer
//! in `split` cut the text into words) and SentencePiece's score-driven merging (`spm`). Both merge in
//! `merge`. [`StreamDecoder`] turns ids back to text as they come; [`ChatTemplate`] turns a conversation
//! into a prompt; [`Sampler`] picks the next token from logits, of those that a `Constraint` allows; and
//! [`StopStrings`] finds the text at which an answer ends.

mod bpe;
mod byte_alphabet;
mod classes;
#[cfg(feature = "grammar")]
mod constraint;
#[cfg(feature = "grammar")]
mod constraint_gbnf;
mod error;
mod logprobs;
mod merge;
mod rng;
mod sampler;
mod special;
mod split;
mod spm;
mod stop;
mod stream;
mod template;
mod template_python;
mod template_time;
mod tokenizer;
mod unicode_ranges;
mod vocab_data;
mod vocab_gguf;

#[cfg(feature = "grammar")]
pub use constraint::{Constraint, ConstraintError, ConstraintFactory};
#[cfg(feature = "grammar")]
pub use constraint_gbnf::GbnfError;
pub use error::TokenizerError;
pub use logprobs::TokenLogprobs;
pub use rng::Rng;
pub use sampler::{
    Candidate, DryParams, Mirostat, Needs, ParamError, SampleError, Sampler, SamplerParams, Stage,
};
pub use split::{PreTokenizer, known_pre_tokenizers};
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, Message, TemplateError};
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use vocab_data::{TokenKind, VocabData};
