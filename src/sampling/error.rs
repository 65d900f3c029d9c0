//! Settings that are refused, and logits that no token can be chosen from.

use super::Stage;
use super::history::MAX_REWIND;

/// A setting that makes no sense.
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
        /// The values that it can have.
        expected: &'static str,
    },
    /// There is nothing to choose from.
    #[error("the vocabulary has no tokens to sample from")]
    EmptyVocabulary,
    /// More tokens than 32-bit ids can name.
    #[error("the vocabulary has {0} tokens; at most 4294967295 can be sampled from")]
    VocabularyTooLarge(usize),
    /// A count that is too large, such as a window that no run could fill.
    #[error("{name} is {value}; at most {most} is supported")]
    TooMany {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The most that is supported.
        most: usize,
    },
    /// A stage that does not exist.
    #[error("there is no sampler `{0}`; the samplers are {list}", list = names())]
    UnknownStage(String),
    /// A stage that would act twice.
    #[error("the sampler `{0}` is listed twice")]
    RepeatedStage(&'static str),
    /// A bias for a token that does not exist.
    #[error("logit_bias names token {token}; the vocabulary has {n_vocab}")]
    BiasedToken {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// An empty text is everywhere.
    #[error("a DRY sequence breaker is empty: it would break everywhere; turn DRY off instead")]
    EmptyBreaker,
    /// DRY's sequence breakers are text, and a sampler without a tokenizer knows no text.
    #[error("DRY's sequence breakers need the tokens' texts: make the sampler with Sampler::for_tokenizer")]
    BreakersWithoutText,
}

fn names() -> String {
    Stage::ORDER.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
}

/// Why no token can be chosen. Logits like these mean that a computation went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// As many logits are needed as there are tokens.
    #[error("got {found} logits for a vocabulary of {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// The size of the vocabulary.
        expected: usize,
    },
    /// The sampler needs more of the largest logits than it was given.
    #[error("got the {found} largest logits, and this sampler needs {needed}; see Sampler::needs")]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A logit that no computation should give. (−∞ is fine: that token is ruled out.)
    #[error("the logit of token {token} is NaN or +infinity")]
    NotFinite {
        /// Its token.
        token: u32,
    },
    /// Every token is ruled out.
    #[error("every logit is -infinity: no token is possible")]
    NothingPossible,
    /// More tokens were to be taken back than are remembered.
    #[error("cannot take back {asked} tokens: the sampler remembers the last {kept}, {MAX_REWIND} at most")]
    Rewind {
        /// The tokens to take back.
        asked: usize,
        /// The tokens that can be.
        kept: usize,
    },
}
