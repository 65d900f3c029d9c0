//! Why a vocabulary cannot be used.

use crate::gguf::MetadataError;

use super::algorithms::known_families;
use crate::text::pretokenizer::known_pre_tokenizers;

/// Why [`Tokenizer::new`](super::Tokenizer::new) refuses a vocabulary. Every message names the metadata
/// key it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A value of the metadata has another type than its key calls for.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A token of a kind that does not exist.
    #[error("tokenizer.ggml.token_type[{index}] is {number}; kinds go from 1 to 6")]
    UnknownKind {
        /// The token.
        index: usize,
        /// Its kind.
        number: i32,
    },
    /// The file says that it has no tokenizer.
    #[error("the file has no tokenizer (tokenizer.ggml.model is \"{0}\"); give token ids instead of text")]
    NoTokenizer(String),
    /// An algorithm that is not supported.
    #[error("tokenizer.ggml.model is \"{0}\": not supported; supported are {list}", list = known_families())]
    UnknownModel(String),
    /// A way to cut text into words that is not known; guessing would give wrong ids.
    #[error("tokenizer.ggml.pre is \"{0}\": not supported; supported are {list}", list = known_pre_tokenizers())]
    UnknownPre(String),
    /// A vocabulary without a single token.
    #[error("tokenizer.ggml.tokens is empty")]
    NoTokens,
    /// More tokens than 32-bit ids can name.
    #[error("tokenizer.ggml.tokens has {0} entries; at most 2147483647 are supported")]
    TooManyTokens(usize),
    /// Something that the algorithm cannot do without is missing.
    #[error("{key} is missing; tokenizer.ggml.model \"{model}\" needs it")]
    Missing {
        /// The metadata key.
        key: &'static str,
        /// The algorithm that needs it.
        model: &'static str,
    },
    /// An array that must have one entry per token has another length.
    #[error("{key} has {found} entries; tokenizer.ggml.tokens has {expected}")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// Its number of entries.
        found: usize,
        /// The number of tokens.
        expected: usize,
    },
    /// A token id that no token has.
    #[error("{key} is {id}; ids go from 0 to {last}", last = n_vocab.saturating_sub(1))]
    IdOutOfRange {
        /// The metadata key.
        key: &'static str,
        /// The id it gives.
        id: u32,
        /// The number of tokens.
        n_vocab: usize,
    },
    /// A table of replacements that contradicts itself.
    #[error(
        "tokenizer.ggml.precompiled_charsmap, of {bytes} bytes, does not hold a double array and its replacements"
    )]
    DamagedCharsmap {
        /// Its size.
        bytes: usize,
    },
    /// A score that cannot be compared.
    #[error("tokenizer.ggml.scores[{0}] is not a number")]
    NanScore(usize),
    /// A score that sums cannot be made of.
    #[error("tokenizer.ggml.scores[{0}] is infinite")]
    InfiniteScore(usize),
    /// A piece so long that looking for it would take too much time.
    #[error("tokenizer.ggml.tokens[{index}] has {bytes} bytes; at most {most} are supported")]
    LongPiece {
        /// The token.
        index: usize,
        /// The length of its text.
        bytes: usize,
        /// The longest that is taken.
        most: usize,
    },
    /// A replacement so long that a short text would become a very long one.
    #[error(
        "tokenizer.ggml.precompiled_charsmap has a replacement of {bytes} bytes; at most {most} are supported"
    )]
    LongReplacement {
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        most: usize,
    },
    /// A merge that is not two parts with a space between them.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}; expected two parts with a space between them")]
    MalformedMerge {
        /// Its position.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// A merge of, or into, something that is no token.
    #[error("tokenizer.ggml.merges[{index}] is {merge:?}, but {missing:?} is not in tokenizer.ggml.tokens")]
    MergeWithoutToken {
        /// Its position.
        index: usize,
        /// Its text.
        merge: String,
        /// The part, or the whole, that is no token.
        missing: String,
    },
    /// A byte that text can contain and the vocabulary cannot express.
    #[error("tokenizer.ggml.tokens has no token for the byte 0x{0:02X}, and there is no unknown token")]
    MissingByte(u8),
}
