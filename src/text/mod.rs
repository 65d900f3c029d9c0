//! Between text and tokens: tokenizers, chat templates, samplers.
//!
//! This folder reads its tables from a GGUF file's metadata. It knows no tensor, no graph and no
//! device.
//!
//! [`VocabData`] is a vocabulary as a file states it; [`Tokenizer`] is that vocabulary checked and
//! indexed, for one of the algorithms of [`TOKENIZER_FAMILIES`]: byte-pair encoding (`bpe`, after its pre-tokenizer
//! in `split` cut the text into words), SentencePiece's score-driven merging (`spm`), which both merge in
//! `merge`, `wordpiece` and `unigram`. [`StreamDecoder`] turns ids back to text as they come; [`ChatTemplate`] turns a conversation
//! into a prompt; [`Sampler`] picks the next token from logits.

mod bpe;
mod byte_alphabet;
mod charsmap;
mod classes;
mod error;
mod families;
mod merge;
mod rng;
mod sampler;
mod sampler_filters;
mod sampler_params;
mod special;
mod split;
mod split_rules;
mod split_words;
mod spm;
mod stream;
mod template;
mod template_python;
mod template_time;
mod tokenizer;
mod unigram;
mod vocab_data;
mod vocab_gguf;
mod wordpiece;

pub use error::TokenizerError;
pub use families::TOKENIZER_FAMILIES;
pub use rng::Rng;
pub use sampler::{Candidate, Needs, SampleError, Sampler};
pub use sampler_params::{ParamError, SamplerParams};
pub use split_rules::{PRE_TOKENIZERS, PreTokenizer, known_pre_tokenizers};
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, Message, RenderOptions, TemplateError};
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use vocab_data::{TokenKind, VocabData};
