//! Reuse of stored state: a prompt that shares a prefix with another is computed from the first different token on, and
//! sequences are put aside and go on.

use super::Session;
use crate::model::state::Aside;
use crate::model::{ModelError, SequenceId};

impl Session {
    /// Opens a sequence that begins with as many of these tokens as the states hold, and returns their number `n`. Pass
    /// the rest, `&tokens[n..]`, to [`Session::prefill`]. At least the last token remains to be computed, for its
    /// logits.
    ///
    /// State of other sequences is found in whole blocks (32 tokens) while they are open, and after they were closed or
    /// rewound until the memory is needed; for a model with recurrent state, only at the ends of blocks that have a
    /// snapshot. State is shared and not copied. Keys and values that were computed in other chunks may differ in their
    /// last bits, as with another [`ubatch`](super::SessionOptions::ubatch).
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_with(&mut self, tokens: &[u32]) -> Result<(SequenceId, usize), ModelError> {
        self.open_salted(0, tokens)
    }

    /// As [`Session::open_with`], but the sequence shares state only with sequences of the same salt, so that the time
    /// that a prompt takes does not tell one user what another user sent. [`Session::open`] and [`Session::open_with`]
    /// have the salt 0.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_salted(&mut self, salt: u64, tokens: &[u32]) -> Result<(SequenceId, usize), ModelError> {
        let id = self.states.open_salted(salt)?;
        Ok((id, self.reuse(id, tokens)?))
    }

    /// Like [`Session::open_with`] for an open sequence: makes it hold as many of these tokens as it or the states
    /// hold, and returns their number. The sequence keeps its own tokens as far as they are the same and its state can
    /// be rewound; the others are removed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let n = self.states.reuse(id, &tokens[..tokens.len().saturating_sub(1)])?;
        tracing::debug!(tokens = tokens.len(), reused = n, "the cache holds the start");
        Ok(n)
    }

    /// Opens a sequence that begins as another one, and returns the number of tokens that both share: those in whole
    /// blocks. Pass the rest, if any, to [`Session::prefill`].
    ///
    /// # Errors
    /// As [`Session::open`]; [`ModelError::ClosedSequence`] or [`ModelError::EmbeddingRow`] of the other sequence.
    pub fn fork(&mut self, id: SequenceId) -> Result<(SequenceId, usize), ModelError> {
        self.states.fork(id)
    }

    /// Closes a sequence that goes on later, and returns its tokens. Its memory is free for others, and its whole
    /// blocks are findable until they are needed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`]; [`ModelError::EmbeddingRow`], since embedding rows cannot be computed again.
    pub fn put_aside(&mut self, id: SequenceId) -> Result<Aside, ModelError> {
        self.states.put_aside(id)
    }

    /// Opens a sequence that was put aside, and returns the number of tokens that the states still hold. Pass the rest
    /// of [`Aside::tokens`], if any, to [`Session::prefill`].
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn go_on(&mut self, aside: &Aside) -> Result<(SequenceId, usize), ModelError> {
        self.states.go_on(aside)
    }
}
