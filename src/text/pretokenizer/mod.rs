//! Pre-tokenizers: the rules by which byte-level BPE cuts text into words, which merges never cross.
//!
//! `rules` lists the pre-tokenizers by their names in GGUF (`tokenizer.ggml.pre`); each is a list of steps, which
//! `split` applies; `words` has the steps that most tokenizers share; `classes` has the character classes of their
//! regular expressions.
//!
//! This folder works on characters only: it knows no vocabulary, no token and no file.

mod classes;
mod rules;
mod split;
mod words;

pub(super) use classes::{PUNCTUATION, is_accent, is_control};
pub use rules::{PRE_TOKENIZERS, PreTokenizer, known_pre_tokenizers};
