//! The outputs of a step's rows.

use super::batch::{BatchRows, RowAt};
use crate::model::Output;

/// The output of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RowOutput<'s> {
    /// No output was wanted.
    Nothing,
    /// The logits, F32 `[n_vocab]`.
    Logits(&'s [f32]),
    /// The token of the largest logit.
    Argmax(u32),
    /// The tokens with the largest logits, and these logits, the largest first.
    TopK(&'s [i32], &'s [f32]),
    /// The hidden state after the model's last norm, F32 `[n_embd]`.
    Hidden(&'s [f32]),
}

impl RowOutput<'_> {
    /// The name of the kind of output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RowOutput::Nothing => "Nothing",
            RowOutput::Logits(_) => "Logits",
            RowOutput::Argmax(_) => "Argmax",
            RowOutput::TopK(..) => "TopK",
            RowOutput::Hidden(_) => "Hidden",
        }
    }
}

/// The outputs of a step's rows, by the number of the [`Rows`](super::Rows) in the step and the row's number in these.
///
/// The CPU answers [`Output::Argmax`] and [`Output::TopK`] with all logits, which are in memory anyway; a GPU computes
/// them, so that only they are copied.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'s> {
    pub(super) batch: &'s BatchRows,
    pub(super) n_vocab: usize,
    pub(super) n_embd: usize,
    pub(super) logits: &'s [f32],
    /// Tokens and logits of top-k, and the `k` of their rows.
    pub(super) top: (&'s [i32], &'s [f32], usize),
    pub(super) argmax: &'s [i32],
    pub(super) hidden: &'s [f32],
}

impl<'s> Outputs<'s> {
    /// The output of row `row` of the step's [`Rows`](super::Rows) number `rows`; [`RowOutput::Nothing`] if the row does not exist.
    pub fn row(&self, rows: usize, row: usize) -> RowOutput<'s> {
        let Some(range) = self.batch.range_of(rows) else { return RowOutput::Nothing };
        if row >= range.len() {
            return RowOutput::Nothing;
        }
        self.batch.outputs.get(range.start + row).map_or(RowOutput::Nothing, |at| self.at(*at))
    }

    /// The output of the last row of the step's [`Rows`](super::Rows) number `rows`.
    pub fn last(&self, rows: usize) -> RowOutput<'s> {
        let n = self.batch.range_of(rows).map_or(0, |range| range.len());
        self.row(rows, n.saturating_sub(1))
    }

    fn at(&self, at: RowAt) -> RowOutput<'s> {
        let row = |values: &'s [f32], width: usize| values.get(at.index * width..(at.index + 1) * width);
        match at.output {
            Output::Nothing => RowOutput::Nothing,
            Output::Logits => row(self.logits, self.n_vocab).map_or(RowOutput::Nothing, RowOutput::Logits),
            Output::Hidden => row(self.hidden, self.n_embd).map_or(RowOutput::Nothing, RowOutput::Hidden),
            Output::Argmax => {
                // The first token of top-k is the arg-max too.
                let (ids, _, width) = self.top;
                let token = self.argmax.get(at.index).or_else(|| ids.get(at.index * width));
                token.map_or(RowOutput::Nothing, |&token| RowOutput::Argmax(token as u32))
            }
            Output::TopK(k) => {
                let (ids, logits, width) = self.top;
                let range = at.index * width..at.index * width + k.min(width);
                match (ids.get(range.clone()), logits.get(range)) {
                    (Some(ids), Some(logits)) => RowOutput::TopK(ids, logits),
                    _ => RowOutput::Nothing,
                }
            }
        }
    }
}
