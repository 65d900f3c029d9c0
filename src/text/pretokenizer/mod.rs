//! Pre-tokenizers: how byte-level BPE cuts text into words, which merges never cross.
//!
//! `rules` lists the pre-tokenizers by the names that GGUF gives them (`tokenizer.ggml.pre`); each is a list of steps,
//! which `split` applies; `words` has the steps that most tokenizers share; `classes` the character classes of their
//! regular expressions.
//!
//! This folder knows characters alone: no vocabulary, no token and no file.

mod classes;
mod rules;
mod split;
mod words;

pub(super) use classes::{PUNCTUATION, is_accent, is_control};
pub use rules::{PRE_TOKENIZERS, PreTokenizer, known_pre_tokenizers};
