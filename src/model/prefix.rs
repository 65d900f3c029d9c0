//! Reusing what the cache holds: prompts that begin like others are computed from where they differ.

use super::{ModelError, SequenceId, Session};

impl Session {
    /// Opens a sequence that begins with as many of these tokens as the cache holds, and gives their number: the rest,
    /// `&tokens[n..]`, is for [`Session::prefill`]. At least the last token is left to compute, since its logits are
    /// wanted.
    ///
    /// What other sequences compute is found in whole blocks (32 tokens) while they are open, and after they were
    /// closed or cut off until the memory is needed. It is shared and not copied. Keys and values that were computed
    /// in other chunks may differ in their last bits, as with another [`ubatch`](super::SessionOptions::ubatch).
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_with(&mut self, tokens: &[u32]) -> Result<(SequenceId, usize), ModelError> {
        let id = self.open()?;
        Ok((id, self.reuse(id, tokens)?))
    }

    /// Makes a sequence hold as many of these tokens as it or the cache holds, and gives their number, as
    /// [`Session::open_with`] does for a new one. Of the sequence's own tokens those are kept that are the same, to the
    /// token; the others are cut off.
    ///
    /// # Errors
    /// [`ModelError::Session`] if the sequence is not open.
    pub fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let n = self.cache_mut().reuse(id, tokens)?;
        tracing::debug!(tokens = tokens.len(), reused = n, "the cache holds the start");
        Ok(n)
    }
}
