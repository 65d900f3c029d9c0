//! Reusing what the states hold: prompts that begin like others are computed from where they differ, and sequences are
//! put aside and go on.

use super::Session;
use crate::model::state::Aside;
use crate::model::{ModelError, SequenceId};

impl Session {
    /// Opens a sequence that begins with as many of these tokens as the states hold, and gives their number: the rest,
    /// `&tokens[n..]`, is for [`Session::prefill`]. At least the last token is left to compute, since its logits are
    /// wanted.
    ///
    /// What other sequences compute is found in whole blocks (32 tokens) while they are open, and after they were
    /// closed or cut off until the memory is needed; where a model has recurrent state, at blocks where that was kept. It
    /// is shared and not copied. Keys and values that were computed in other chunks may differ in their last bits, as
    /// with another [`ubatch`](super::SessionOptions::ubatch).
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_with(&mut self, tokens: &[u32]) -> Result<(SequenceId, usize), ModelError> {
        let id = self.open()?;
        Ok((id, self.reuse(id, tokens)?))
    }

    /// Makes a sequence hold as many of these tokens as it or the states hold, and gives their number, as
    /// [`Session::open_with`] does for a new one. Of the sequence's own tokens those are kept that are the same, as far
    /// as its state can be cut; the others are cut off.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let n = self.states.reuse(id, &tokens[..tokens.len().saturating_sub(1)])?;
        tracing::debug!(tokens = tokens.len(), reused = n, "the cache holds the start");
        Ok(n)
    }

    /// Opens a sequence that begins as another one is now, and gives how many of its tokens it holds: its whole blocks
    /// are shared. The rest, if any, is for [`Session::prefill`].
    ///
    /// # Errors
    /// As [`Session::open`]; [`ModelError::ClosedSequence`] or [`ModelError::EmbeddingRow`] of the other sequence.
    pub fn fork(&mut self, id: SequenceId) -> Result<(SequenceId, usize), ModelError> {
        let tokens: Vec<u32> = self.states.tokens(id)?.collect();
        let fork = self.open()?;
        Ok((fork, self.states.reuse(fork, &tokens)?))
    }

    /// Closes a sequence that goes on later, and gives its tokens: its memory is free for others, and its whole blocks
    /// can be found until it is needed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`]; [`ModelError::EmbeddingRow`], since embedding rows cannot be computed again.
    pub fn put_aside(&mut self, id: SequenceId) -> Result<Aside, ModelError> {
        self.states.put_aside(id)
    }

    /// Opens a sequence that was put aside, and gives how many of its tokens it still holds: the rest of
    /// [`Aside::tokens`], if any, is for [`Session::prefill`].
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn go_on(&mut self, aside: &Aside) -> Result<(SequenceId, usize), ModelError> {
        let id = self.open()?;
        Ok((id, self.states.reuse(id, aside.tokens())?))
    }
}
