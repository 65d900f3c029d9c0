//! Rows, the input of a step.

use crate::model::{Output, SequenceId};

/// Rows that follow each other in one sequence: tokens or embeddings, with the outputs that are wanted of them.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(super) sequence: SequenceId,
    pub(super) input: RowInput<'a>,
    pub(super) positions: Option<&'a [[i32; 4]]>,
    /// The output of the last row.
    pub(super) last: Output,
    /// The output of every other row.
    pub(super) others: Output,
}

/// The input of rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowInput<'a> {
    Tokens(&'a [u32]),
    /// F32 `[n_embd, n]`.
    Embeddings(&'a [f32]),
}

impl<'a> Rows<'a> {
    /// The next tokens of a sequence, without an output.
    pub fn of(sequence: SequenceId, tokens: &'a [u32]) -> Rows<'a> {
        Rows::new(sequence, RowInput::Tokens(tokens))
    }

    /// Embeddings in place of tokens, one per row: F32 `[n_embd, n]`, as input of the first layer.
    pub fn embeddings(sequence: SequenceId, embeddings: &'a [f32]) -> Rows<'a> {
        Rows::new(sequence, RowInput::Embeddings(embeddings))
    }

    fn new(sequence: SequenceId, input: RowInput<'a>) -> Rows<'a> {
        let none = Output::Nothing;
        Rows { sequence, input, positions: None, last: none, others: none }
    }

    /// Sets the positions of each row, for models whose rows have several ([`ModelShape::n_pos`]); positions beyond
    /// that number are ignored. By default every position of a row is its place in the sequence.
    ///
    /// [`ModelShape::n_pos`]: crate::model::ModelShape::n_pos
    pub fn at(self, positions: &'a [[i32; 4]]) -> Rows<'a> {
        Rows { positions: Some(positions), ..self }
    }

    /// Requests an output of the last row.
    pub fn want(self, output: Output) -> Rows<'a> {
        Rows { last: output, ..self }
    }

    /// Requests an output of every row.
    pub fn want_all(self, output: Output) -> Rows<'a> {
        Rows { last: output, others: output, ..self }
    }

    /// The number of rows, for embeddings of `n_embd` elements.
    pub(super) fn len(&self, n_embd: usize) -> usize {
        match self.input {
            RowInput::Tokens(tokens) => tokens.len(),
            RowInput::Embeddings(embeddings) => embeddings.len() / n_embd,
        }
    }

    /// The wanted output of row `i` of `n`.
    pub(super) fn output(&self, i: usize, n: usize) -> Output {
        if i + 1 == n { self.last } else { self.others }
    }
}
