//! Context shift: continuing at the end of a context without its oldest tokens.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::Session;
use crate::model::{ModelError, Rewind, SequenceId};

/// The tokens to drop at the end of a context: the older half of the tokens after the first `keep`,
/// repeatedly until the rest fits.
///
/// Each drop has the same size, half of the context after `keep`, so that a growing conversation is cut at the same
/// place for many messages, and its prefix stays in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextShift {
    /// The number of tokens at the start that are kept: a BOS, a system message.
    pub keep: usize,
}

impl ContextShift {
    /// The number of tokens after the first `keep` to drop out of `len`, so that the others fit a context of `n_ctx`.
    ///
    /// # Errors
    /// [`ModelError::ShiftKeepsAll`] if the kept tokens fill the context.
    pub fn dropped(&self, len: usize, n_ctx: usize) -> Result<usize, ModelError> {
        let keep = self.keep;
        if keep >= n_ctx {
            return Err(ModelError::ShiftKeepsAll { keep, n_ctx });
        }
        let step = (n_ctx - keep).div_ceil(2);
        Ok(len.saturating_sub(n_ctx).div_ceil(step) * step)
    }

    /// A text without its dropped tokens.
    ///
    /// # Errors
    /// As [`ContextShift::dropped`].
    pub fn shorten<'t>(&self, tokens: &'t [u32], n_ctx: usize) -> Result<Cow<'t, [u32]>, ModelError> {
        match self.dropped(tokens.len(), n_ctx)? {
            0 => Ok(Cow::Borrowed(tokens)),
            dropped => Ok(Cow::Owned([&tokens[..self.keep], &tokens[self.keep + dropped..]].concat())),
        }
    }
}

impl Session {
    /// Makes room for one more token in a sequence whose context is full, and returns the number of dropped tokens: 0
    /// if there was room.
    ///
    /// The remaining tokens are computed again at their new positions, since keys depend on their positions. That costs
    /// as much as a prompt of half the context, once for every half context of tokens. Afterwards the sequence is the
    /// same as one that began with these tokens. `progress` is as in [`Session::prefill_with`]: if it stops the work,
    /// some of the last tokens are missing, and the result is `Break`.
    ///
    /// # Errors
    /// As [`ContextShift::dropped`] and [`Session::prefill`]; [`ModelError::ShiftOfRecurrent`],
    /// [`ModelError::EmbeddingRow`].
    pub fn shift(
        &mut self,
        id: SequenceId,
        shift: ContextShift,
        progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), usize>, ModelError> {
        let (n_ctx, len) = (self.states.n_ctx(), self.states.len(id)?);
        let dropped = shift.dropped(len + 1, n_ctx)?;
        if dropped == 0 {
            return Ok(ControlFlow::Continue(0));
        }
        if self.states.has_recurrent() {
            let architecture = self.model.architecture_name().to_owned();
            return Err(ModelError::ShiftOfRecurrent { n_ctx, architecture });
        }
        let tokens: Vec<u32> = self.states.tokens(id)?.collect();
        let keep = match self.rewind(id, shift.keep)? {
            Rewind::Done => shift.keep,
            // The block is shared with other sequences.
            Rewind::RecomputeFrom(held) => held,
        };
        let tail = [&tokens[keep..shift.keep], &tokens[shift.keep + dropped..]].concat();
        let (kept, again) = (shift.keep, tail.len());
        tracing::info!(
            "the context of {n_ctx} tokens is full: {dropped} after the first {kept} are dropped, {again} computed again"
        );
        let done =
            if tail.is_empty() { ControlFlow::Continue(()) } else { self.prefill_with(id, &tail, progress)? };
        Ok(done.map_continue(|()| dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The rest fits with the next token, no more halves are dropped than needed, and half of the context stays.
        #[test]
        fn the_fewest_steps_are_dropped(n_ctx in 1usize..200, keep in 0usize..250, len in 0usize..2000) {
            let shift = ContextShift { keep };
            let dropped = shift.dropped(len, n_ctx);
            prop_assert_eq!(dropped.is_err(), keep >= n_ctx);
            let Ok(dropped) = dropped else { return Ok(()) };
            let step = (n_ctx - keep).div_ceil(2);
            prop_assert!(dropped.is_multiple_of(step) && len - dropped <= n_ctx);
            prop_assert!(dropped == 0 || (len - dropped + step > n_ctx && len - dropped > keep));
            let tokens: Vec<u32> = (0..len as u32).collect();
            let left = shift.shorten(&tokens, n_ctx).unwrap();
            prop_assert_eq!(left.len(), len - dropped);
            let kept = |&token: &u32| token < keep as u32 || token >= (keep + dropped) as u32;
            prop_assert!(left.iter().all(kept));
        }
    }
}
