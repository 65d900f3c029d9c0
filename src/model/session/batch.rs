//! Packing the rows of a step into the inputs of a batch's graph.
//!
//! Rows of prompt chunks come first, then the rows of sequences that have few; each part is padded to a size that plans
//! are made for. Rows of one sequence are adjacent. All buffers are allocated once and kept.

use std::ops::Range;

use super::rows::{RowInput, Rows};
use crate::model::state::EMBEDDING_ROW;
use crate::model::{
    BatchShape, ModelError, Output, OutputCounts, PROMPT_ROWS, RowsError, SequenceId, States,
};

/// The output of a row, and its place in the batch's outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowAt {
    pub output: Output,
    /// The row's index in this kind of output.
    pub index: usize,
}

/// The sizes of a model and session that a batch depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    pub n_vocab: usize,
    pub n_embd: usize,
    pub n_pos: usize,
    /// The most rows of a step.
    pub max_rows: usize,
    /// True if arg-max and top-k are answered with all logits.
    pub whole_logits: bool,
}

impl RowLimits {
    /// The output that is computed for a wanted one.
    fn answer(&self, output: Output) -> Output {
        match output {
            Output::Argmax | Output::TopK(_) if self.whole_logits => Output::Logits,
            output => output,
        }
    }
}

/// The rows of one sequence in a batch.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Rows of the step.
    n: usize,
    /// The first of these rows in the batch.
    first: usize,
    /// Rows that are already in the batch.
    packed: usize,
}

/// The contents of a batch, in buffers that are allocated once.
#[derive(Debug)]
pub(super) struct BatchRows {
    pub tokens: Vec<i32>,
    pub positions: Vec<i32>,
    pub slots: Vec<i32>,
    pub sequences: Vec<i32>,
    pub wanted: Vec<i32>,
    /// `[n_rows, n_pos]`, if rows have several positions; else empty.
    pub row_positions: Vec<i32>,
    /// `[n_embd, n_embedded]`.
    pub embeddings: Vec<f32>,
    pub embedding_of_row: Vec<i32>,
    /// `[4, n_runs]`, as described at [`ModelBuilder::runs`](crate::model::ModelBuilder::runs).
    pub runs: Vec<i32>,
    /// The token that identifies each row's content, or [`EMBEDDING_ROW`].
    names: Vec<u32>,
    /// The rows of each sequence of the session.
    of_sequence: Vec<Run>,
    /// The sequences of the batch.
    present: Vec<SequenceId>,
    /// The end of each [`Rows`] of the step, counted in rows of the step.
    ends: Vec<usize>,
    /// `ends` of rows that are measured but not packed yet: a refused step keeps the outputs of the step before.
    next_ends: Vec<usize>,
    /// Rows with logits, which come first in the outputs.
    n_logits: usize,
    /// One entry for each row of the step.
    pub outputs: Vec<RowAt>,
}

impl BatchRows {
    /// Bytes of the buffers that [`BatchRows::new`] makes.
    pub fn bytes(max_rows: usize, n_sequences: usize) -> usize {
        let step_row = size_of::<RowAt>() + 2 * size_of::<usize>();
        let rows = BatchShape::most_rows(max_rows).saturating_mul(size_of::<[i32; 6]>());
        let sequence = size_of::<[i32; 4]>() + size_of::<Run>() + size_of::<SequenceId>();
        rows.saturating_add(max_rows.saturating_mul(step_row))
            .saturating_add(n_sequences.saturating_mul(sequence))
    }

    /// Buffers for steps of up to `max_rows` rows. Those for embedding rows and for several positions per row grow with
    /// the first such rows.
    pub fn new(max_rows: usize, n_sequences: usize) -> BatchRows {
        let padded = BatchShape::most_rows(max_rows);
        let buffer = || Vec::with_capacity(padded);
        BatchRows {
            tokens: buffer(),
            positions: buffer(),
            slots: buffer(),
            sequences: buffer(),
            wanted: buffer(),
            row_positions: Vec::new(),
            embeddings: Vec::new(),
            embedding_of_row: Vec::new(),
            runs: Vec::with_capacity(4 * n_sequences.min(padded)),
            names: Vec::with_capacity(padded),
            of_sequence: vec![Run::default(); n_sequences],
            present: Vec::with_capacity(n_sequences),
            ends: Vec::with_capacity(max_rows),
            next_ends: Vec::with_capacity(max_rows),
            n_logits: 0,
            outputs: Vec::with_capacity(max_rows),
        }
    }

    /// The rows of the step that belong to [`Rows`] number `i`.
    pub fn range_of(&self, i: usize) -> Option<Range<usize>> {
        let start = if i == 0 { 0 } else { *self.ends.get(i - 1)? };
        Some(start..*self.ends.get(i)?)
    }

    /// The number of [`Rows`] of the step.
    pub fn n_rows_of_step(&self) -> usize {
        self.ends.len()
    }

    /// The sequences of the batch, each with its number of rows.
    pub fn present(&self) -> impl Iterator<Item = (SequenceId, usize)> + '_ {
        self.present.iter().map(|&id| (id, self.of_sequence[id.0].n))
    }

    /// The identifying tokens of a sequence's rows.
    pub fn names(&self, id: SequenceId) -> &[u32] {
        let Run { n, first, .. } = self.of_sequence[id.0];
        self.names.get(first..first + n).unwrap_or_default()
    }

    /// Checks rows, records their sequences, and returns the sizes of their batch.
    pub fn measure<'a>(
        &mut self,
        rows: impl Iterator<Item = Rows<'a>>,
        states: &States,
        limits: &RowLimits,
    ) -> Result<BatchShape, ModelError> {
        self.present.iter().for_each(|id| self.of_sequence[id.0] = Run::default());
        self.present.clear();
        self.next_ends.clear();
        let (mut n_rows, mut n_embedded, mut outputs) = (0, 0, OutputCounts::default());
        for rows in rows {
            let n = check(&rows, limits)?;
            states.len(rows.sequence)?;
            let run = &mut self.of_sequence[rows.sequence.0];
            if run.n == 0 {
                self.present.push(rows.sequence);
            }
            run.n += n;
            n_rows += n;
            self.next_ends.push(n_rows);
            if matches!(rows.input, RowInput::Embeddings(_)) {
                n_embedded += n;
            }
            outputs.add(limits.answer(rows.last), 1);
            outputs.add(limits.answer(rows.others), n - 1);
        }
        if n_rows == 0 || n_rows > limits.max_rows {
            let most = limits.max_rows;
            return Err(RowsError::Count { n_rows, most }.into());
        }
        if outputs.total() == 0 {
            // Use the plan for one row's logits, which cost little.
            outputs.add(Output::Logits, 1);
        }
        self.n_logits = outputs.logits;
        let runs = self.present.iter().map(|id| self.of_sequence[id.0].n);
        let n_prompt: usize = runs.filter(|&n| n >= PROMPT_ROWS).sum();
        let gather = !(outputs.is_uniform() && outputs.total() == n_rows);
        let shape = BatchShape { n_prompt, n_single: n_rows - n_prompt, n_embedded, outputs, gather };
        Ok(shape.rounded(limits.n_vocab))
    }

    /// Fills the buffers with the measured rows, for which the states have reserved room.
    pub fn pack<'a>(
        &mut self,
        rows: impl Iterator<Item = Rows<'a>>,
        states: &States,
        limits: &RowLimits,
        shape: &BatchShape,
    ) {
        self.clear(shape, limits);
        std::mem::swap(&mut self.ends, &mut self.next_ends);
        self.place_runs(states, shape);
        let (mut embedded, mut next) = (0, [0, self.n_logits, shape.outputs.rows]);
        for rows in rows {
            let (id, n) = (rows.sequence, rows.len(limits.n_embd));
            let len = states.len(id).unwrap_or(0);
            for i in 0..n {
                let run = &mut self.of_sequence[id.0];
                let (at, position) = (run.first + run.packed, len + run.packed);
                run.packed += 1;
                self.put(at, states.slot(id, position), position, id);
                self.put_input(&rows, i, at, limits, &mut embedded);
                self.put_output(limits.answer(rows.output(i, n)), at, shape, &mut next);
            }
        }
    }

    /// Gives each sequence its place in the batch: prompt chunks first.
    fn place_runs(&mut self, states: &States, shape: &BatchShape) {
        let mut next = [0, shape.n_prompt];
        for &id in &self.present {
            let run = &mut self.of_sequence[id.0];
            let part = usize::from(run.n < PROMPT_ROWS);
            run.first = next[part];
            next[part] += run.n;
            let [source, target] = states.source_and_target(id);
            self.runs.extend([run.first as i32, run.n as i32, source, target]);
        }
        let n_runs = shape.n_rows().min(states.layout().n_sequences);
        self.runs.resize(4 * n_runs, 0);
    }

    fn clear(&mut self, shape: &BatchShape, limits: &RowLimits) {
        let n = shape.n_rows();
        let fill = |buffer: &mut Vec<i32>, n: usize, value: i32| {
            buffer.clear();
            buffer.resize(n, value);
        };
        fill(&mut self.tokens, n, 0);
        fill(&mut self.positions, n, 0);
        fill(&mut self.slots, n, -1);
        fill(&mut self.sequences, n, -1);
        fill(&mut self.wanted, if shape.gather { shape.n_outputs() } else { 0 }, 0);
        fill(&mut self.row_positions, if limits.n_pos > 1 { n * limits.n_pos } else { 0 }, 0);
        fill(&mut self.runs, 0, 0);
        self.embedding_of_row.clear();
        if shape.n_embedded > 0 {
            self.embedding_of_row.extend(0..n as i32);
        }
        self.embeddings.clear();
        self.embeddings.resize(shape.n_embedded * limits.n_embd, 0.0);
        self.names.clear();
        self.names.resize(n, EMBEDDING_ROW);
        self.outputs.clear();
    }

    fn put(&mut self, at: usize, slot: i32, position: usize, id: SequenceId) {
        self.positions[at] = position as i32;
        self.slots[at] = slot;
        self.sequences[at] = id.0 as i32;
    }

    /// Stores row `i` of `rows` as row `at` of the batch, whose position is already stored.
    fn put_input(&mut self, rows: &Rows<'_>, i: usize, at: usize, limits: &RowLimits, embedded: &mut usize) {
        let (n_rows, place) = (self.tokens.len(), self.positions[at]);
        match rows.input {
            RowInput::Tokens(tokens) => {
                self.tokens[at] = tokens[i] as i32;
                self.names[at] = tokens[i];
            }
            RowInput::Embeddings(values) => {
                let n_embd = limits.n_embd;
                let to = &mut self.embeddings[*embedded * n_embd..][..n_embd];
                to.copy_from_slice(&values[i * n_embd..][..n_embd]);
                self.embedding_of_row[at] = (n_rows + *embedded) as i32;
                *embedded += 1;
            }
        }
        if limits.n_pos > 1 {
            let own = rows.positions.map(|positions| positions[i]);
            for dim in 0..limits.n_pos {
                self.row_positions[dim * n_rows + at] = own.map_or(place, |own| own[dim]);
            }
            // Keys depend on these positions, so the token alone does not identify the cached content.
            if own.is_some_and(|own| own[..limits.n_pos].iter().any(|&position| position != place)) {
                self.names[at] = EMBEDDING_ROW;
            }
        }
    }

    /// Records the place of the output of the step's next row, which is row `at` of the batch. `next` are the numbers of
    /// the next gathered rows with logits, with a choice among the logits, and with a hidden state.
    fn put_output(&mut self, output: Output, at: usize, shape: &BatchShape, next: &mut [usize; 3]) {
        let kind = match output {
            Output::Nothing => {
                self.outputs.push(RowAt { output, index: 0 });
                return;
            }
            Output::Logits => 0,
            Output::TopK(_) | Output::Argmax => 1,
            Output::Hidden => 2,
        };
        let mut index = at;
        if shape.gather {
            let number = next[kind];
            next[kind] += 1;
            self.wanted[number] = at as i32;
            index = number - [0, 0, shape.outputs.rows][kind];
        }
        self.outputs.push(RowAt { output, index });
    }
}

/// Checks `rows` on their own and returns their number.
fn check(rows: &Rows<'_>, limits: &RowLimits) -> Result<usize, ModelError> {
    let RowLimits { n_vocab, n_embd, n_pos, .. } = *limits;
    let refuse = |error: RowsError| Err(error.into());
    let n = rows.len(n_embd);
    match rows.input {
        RowInput::Tokens(tokens) => {
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= n_vocab) {
                return Err(ModelError::Token { token, n_vocab });
            }
        }
        RowInput::Embeddings(values) if values.len() % n_embd != 0 => {
            return refuse(RowsError::PartialEmbedding { n_values: values.len(), n_embd });
        }
        RowInput::Embeddings(values) => {
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                let (row, index, value) = (at / n_embd, at % n_embd, values[at]);
                return refuse(RowsError::NotFinite { row, index, value });
            }
        }
    }
    if n == 0 {
        return refuse(RowsError::Empty);
    }
    if let Some(positions) = rows.positions {
        if n_pos == 1 {
            return refuse(RowsError::OnePosition);
        }
        if positions.len() != n {
            return refuse(RowsError::PositionCount { n_positions: positions.len(), n_rows: n });
        }
        let mut read = positions.iter().flat_map(|own| &own[..n_pos]);
        if let Some(&position) = read.find(|position| **position < 0) {
            return refuse(RowsError::NegativePosition { position });
        }
    }
    for output in [rows.last, rows.others] {
        if let Output::TopK(k) = output
            && !(1..=n_vocab).contains(&k)
        {
            return refuse(RowsError::TopK { k, n_vocab });
        }
    }
    Ok(n)
}
