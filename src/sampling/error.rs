//! Errors of sampling: invalid settings, and logits that no token can be chosen from.

use super::Stage;
use super::history::MAX_REWIND;

/// Reason why settings are invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// A number outside its range, or not a number.
    #[error("{name} is {value}; expected {expected}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f32,
        /// Description of the valid values.
        expected: &'static str,
    },
    /// The vocabulary is empty.
    #[error("the vocabulary has no tokens to sample from")]
    EmptyVocabulary,
    /// The vocabulary has more tokens than 32-bit ids.
    #[error("the vocabulary has {0} tokens; at most 4294967295 can be sampled from")]
    VocabularyTooLarge(usize),
    /// A count that is too large, such as a window longer than any text.
    #[error("{name} is {value}; at most {most} is supported")]
    TooMany {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest supported value.
        most: usize,
    },
    /// An unknown stage name.
    #[error("there is no sampler `{0}`; the samplers are {list}", list = names())]
    UnknownStage(String),
    /// A stage is listed twice.
    #[error("the sampler `{0}` is listed twice")]
    RepeatedStage(&'static str),
    /// A bias for a token outside the vocabulary.
    #[error("logit_bias names token {token}; the vocabulary has {n_vocab}")]
    BiasedToken {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// An empty breaker would match everywhere.
    #[error("a DRY sequence breaker is empty: it would break everywhere; turn DRY off instead")]
    EmptyBreaker,
    /// DRY's sequence breakers need the tokens' texts, which a sampler without a tokenizer lacks.
    #[error("DRY's sequence breakers need the tokens' texts: make the sampler with Sampler::for_tokenizer")]
    BreakersWithoutText,
}

fn names() -> String {
    Stage::ORDER.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
}

/// Reason why no token can be chosen. Such logits indicate a fault in the computation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The number of logits differs from the vocabulary's size.
    #[error("got {found} logits for a vocabulary of {expected}")]
    Length {
        /// Number of logits given.
        found: usize,
        /// The size of the vocabulary.
        expected: usize,
    },
    /// Fewer of the largest logits than the sampler needs.
    #[error("got the {found} largest logits, and this sampler needs {needed}; see Sampler::needs")]
    TooFew {
        /// Number of logits given.
        found: usize,
        /// Number of logits needed.
        needed: usize,
    },
    /// A logit is NaN or +∞. (−∞ is valid: it rules the token out.)
    #[error("the logit of token {token} is NaN or +infinity")]
    NotFinite {
        /// The token of the logit.
        token: u32,
    },
    /// Every token is ruled out.
    #[error("every logit is -infinity: no token is possible")]
    NothingPossible,
    /// A rewind by more tokens than are remembered.
    #[error("cannot take back {asked} tokens: the sampler remembers the last {kept}, {MAX_REWIND} at most")]
    Rewind {
        /// Number of tokens to rewind.
        asked: usize,
        /// Number of tokens that can be rewound.
        kept: usize,
    },
}
