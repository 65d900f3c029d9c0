//! Errors of a vocabulary.

use crate::gguf::MetadataError;

use super::algorithms::known_algorithms;
use crate::text::pretokenizer::known_pre_tokenizers;

/// Reason why [`Tokenizer::new`](super::Tokenizer::new) refuses a vocabulary. Every message names the metadata key
/// concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata value has the wrong type for its key.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The file declares that it has no tokenizer.
    #[error("the file has no tokenizer (tokenizer.ggml.model is \"{0}\"); give token ids instead of text")]
    NoTokenizer(String),
    /// The algorithm is not supported.
    #[error("tokenizer.ggml.model is \"{0}\": not supported; supported are {list}", list = known_algorithms())]
    UnknownModel(String),
    /// The pre-tokenizer is not supported; guessing would give wrong ids.
    #[error("tokenizer.ggml.pre is \"{0}\": not supported; supported are {list}", list = known_pre_tokenizers())]
    UnknownPre(String),
    /// A vocabulary without tokens.
    #[error("tokenizer.ggml.tokens is empty")]
    NoTokens,
    /// More tokens than 32-bit ids can number.
    #[error("tokenizer.ggml.tokens has {0} entries; at most 2147483647 are supported")]
    TooManyTokens(usize),
    /// Data that the algorithm requires is missing.
    #[error("{key} is missing; tokenizer.ggml.model \"{model}\" needs it")]
    Missing {
        /// The metadata key.
        key: &'static str,
        /// The algorithm that needs it.
        model: &'static str,
    },
    /// The length of a per-token array differs from the number of tokens.
    #[error("{key} has {found} entries; tokenizer.ggml.tokens has {expected}")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// Its number of entries.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// An inconsistent table of replacements.
    #[error(
        "tokenizer.ggml.precompiled_charsmap, of {bytes} bytes, does not hold a double array and its replacements"
    )]
    DamagedCharsmap {
        /// Its size.
        bytes: usize,
    },
    /// A score that is NaN.
    #[error("tokenizer.ggml.scores[{0}] is not a number")]
    NanScore(usize),
    /// A score that is infinite.
    #[error("tokenizer.ggml.scores[{0}] is infinite")]
    InfiniteScore(usize),
    /// A piece so long that searching for it would take too much time.
    #[error("tokenizer.ggml.tokens[{index}] has {bytes} bytes; at most {most} are supported")]
    LongPiece {
        /// The token.
        index: usize,
        /// The length of its text.
        bytes: usize,
        /// The longest supported.
        most: usize,
    },
    /// A replacement so long that a short text could become a very long one.
    #[error(
        "tokenizer.ggml.precompiled_charsmap has a replacement of {bytes} bytes; at most {most} are supported"
    )]
    LongReplacement {
        /// Its length.
        bytes: usize,
        /// The longest supported.
        most: usize,
    },
    /// A merge that is not two parts separated by a space.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}; expected two parts with a space between them")]
    MalformedMerge {
        /// Its index.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// A part or the result of a merge is not a token.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}, but {missing:?} is not in tokenizer.ggml.tokens")]
    MergeWithoutToken {
        /// Its index.
        index: usize,
        /// Its text.
        merge: String,
        /// The part or result that is not a token.
        missing: String,
    },
    /// A byte that text can contain has no token.
    #[error("tokenizer.ggml.tokens has no token for the byte 0x{0:02X}, and there is no unknown token")]
    MissingByte(u8),
}
