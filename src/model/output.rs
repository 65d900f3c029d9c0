//! The outputs that a row of a batch can give.

/// The output that is wanted of one row of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Output {
    /// No output.
    Nothing,
    /// The logits of the next token, F32 `[n_vocab]`.
    #[default]
    Logits,
    /// The token with the largest logit, the first of equal ones.
    Argmax,
    /// The tokens with the largest logits, this many, the largest first, and their logits; of equal ones the first.
    TopK(usize),
    /// The hidden state after the model's last norm, F32 `[n_embd]`.
    Hidden,
}
