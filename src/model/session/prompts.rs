//! Short callers of the step: whole prompts, every row's logits, one token of each of several sequences.

use std::ops::ControlFlow;

use super::plans::chunk;
use super::{BLOCK_SIZE, Outputs, RowOutput, Rows, Session};
use crate::model::{ModelError, Output, SequenceId};

/// The logits of a step, in the order of its rows.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'s> {
    outputs: Outputs<'s>,
}

impl<'s> Logits<'s> {
    /// The logits of the last row of the step's [`Rows`] number `i`, one for each token of the vocabulary; empty if
    /// none were wanted.
    pub fn row(&self, i: usize) -> &'s [f32] {
        match self.outputs.last(i) {
            RowOutput::Logits(logits) => logits,
            _ => &[],
        }
    }

    /// [`Logits::row`] for each [`Rows`] of the step.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'s [f32]> + use<'s> {
        let logits = *self;
        (0..self.outputs.batch.n_rows_of_step()).map(move |i| logits.row(i))
    }
}

impl Session {
    /// Appends tokens to a sequence, in chunks of at most `ubatch`, and returns the logits of the last token.
    ///
    /// # Errors
    /// As [`Session::step`]; [`ModelError::NoTokens`]. Chunks before the one that failed stay in the sequence.
    pub fn prefill(&mut self, id: SequenceId, tokens: &[u32]) -> Result<&[f32], ModelError> {
        // The callback never stops the prefill.
        let _ = self.prefill_with(id, tokens, |_| ControlFlow::Continue(()))?;
        Ok(self.logits()?.row(0))
    }

    /// Like [`Session::prefill`]; after each chunk `progress` receives the number of tokens done so far, and may stop
    /// the prefill. These tokens then stay in the sequence. [`Session::logits`] returns the logits of the last one.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_with(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ModelError> {
        if tokens.is_empty() {
            return Err(ModelError::NoTokens { wanted: "logits" });
        }
        self.check_whole(id, tokens)?;
        let mut done = 0;
        while done < tokens.len() {
            let n = self.next_chunk(id, tokens.len() - done, self.ubatch)?;
            let rows = Rows::of(id, &tokens[done..done + n]).want(Output::Logits);
            self.run(std::iter::once(rows))?;
            done += n;
            if progress(done).is_break() {
                // Releases the room for the rest of the prompt.
                self.states.abandon(id, false);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Checks a whole prompt and reserves its room before any of it is computed.
    fn check_whole(&mut self, id: SequenceId, tokens: &[u32]) -> Result<(), ModelError> {
        let n_vocab = self.shape.n_vocab;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= n_vocab) {
            return Err(ModelError::Token { token, n_vocab });
        }
        self.states.reserve(id, tokens.len())
    }

    /// The number of tokens, out of `left` and at most `most`, in a prompt's next chunk. A snapshot of recurrent state
    /// is kept at the end of the prompt's last whole block, so a chunk ends there.
    pub(crate) fn next_chunk(&self, id: SequenceId, left: usize, most: usize) -> Result<usize, ModelError> {
        let n = chunk(left, most.min(self.ubatch));
        let len = self.states.len(id)?;
        let boundary = (len + left - 1) / BLOCK_SIZE * BLOCK_SIZE;
        let crosses = self.states.has_recurrent() && (len + 1..len + n).contains(&boundary);
        Ok(if crosses { boundary - len } else { n })
    }

    /// Appends tokens to a sequence and passes each token's logits to `f`, in order.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn all_logits(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.every_row(id, tokens, Output::Logits, f)
    }

    /// Appends tokens to a sequence and passes each token's hidden state after the model's last norm to `f`, in order:
    /// `n_embd` numbers. The first call compiles the plans for it.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn all_states(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.every_row(id, tokens, Output::Hidden, f)
    }

    fn every_row(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        want: Output,
        mut f: impl FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        self.check_whole(id, tokens)?;
        let mut rest = tokens;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len(), self.ubatch));
            let outputs = self.step(&[Rows::of(id, now).want_all(want)])?;
            for row in 0..now.len() {
                if let RowOutput::Logits(values) | RowOutput::Hidden(values) = outputs.row(0, row) {
                    f(values);
                }
            }
            rest = later;
        }
        Ok(())
    }

    /// Appends one token to each of several sequences and returns the logits of each token, in the same order.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn decode(&mut self, next: &[(SequenceId, u32)]) -> Result<Logits<'_>, ModelError> {
        let rows = next.iter().map(|(id, token)| Rows::of(*id, std::slice::from_ref(token)));
        self.run(rows.map(|rows| rows.want(Output::Logits)))?;
        self.logits()
    }

    /// The logits of the last step.
    ///
    /// # Errors
    /// [`ModelError::NoLogits`] if none were wanted, [`ModelError::NothingComputed`].
    pub fn logits(&self) -> Result<Logits<'_>, ModelError> {
        let outputs = self.outputs()?;
        // A step without outputs runs the plan for one row's logits, which belong to none of its rows.
        match outputs.batch.outputs.iter().any(|row| row.output == Output::Logits) {
            true => Ok(Logits { outputs }),
            false => Err(ModelError::NoLogits),
        }
    }
}
