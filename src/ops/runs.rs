//! Runs of rows: the rows that a batch has of each sequence, and the slots of recurrent state that they read and write.
//!
//! Operators with recurrent state take them as `I32[4, n_runs]`: first row, number of rows, the slot of the state before
//! them (-1: it starts with zeros), and the slot for the state after them, which may be the same. A run of 0 rows is
//! padding, and so is a row of no run; its output is 0. No run writes a slot that another run reads or writes.

use std::ops::Range;

use crate::cpu::StepError;
use crate::graph::ShapeError;
use crate::graph::case::{CaseInput, Draw};
use crate::tensor::{DType, Desc};

/// The rows of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The rows, in the order of their positions.
    pub rows: Range<usize>,
    /// The slot of the state before them; `None`: zeros.
    pub source: Option<usize>,
    /// The slot of the state after them.
    pub target: usize,
}

/// Checks that an input is a list of runs.
pub fn check(inputs: &[Desc], i: usize) -> Result<(), ShapeError> {
    match inputs.get(i) {
        Some(runs)
            if runs.dtype == DType::I32
                && runs.shape.ne() == [4, runs.shape.dim(1).max(1), 1, 1]
                && runs.is_contiguous() =>
        {
            Ok(())
        }
        _ => Err(ShapeError::rule("runs must be I32[4, n_runs] without gaps, n_runs at least 1", inputs)),
    }
}

/// The runs that are not padding, for a batch of `n_rows` rows and a state of `n_slots` slots.
pub fn read(
    runs: &[i32],
    n_rows: usize,
    n_slots: usize,
) -> impl Iterator<Item = Result<Run, StepError>> + Clone {
    runs.as_chunks::<4>().0.iter().filter(|[_, n, ..]| *n > 0).map(move |&[first, n, source, target]| {
        let first = StepError::check("the first row of a run", first, n_rows)?;
        let last = StepError::check("the last row of a run", n.saturating_add(first as i32 - 1), n_rows)?;
        let slot = |slot| StepError::check("a slot of recurrent state", slot, n_slots);
        let source = if source < 0 { None } else { Some(slot(source)?) };
        Ok(Run { rows: first..last + 1, source, target: slot(target)? })
    })
}

/// Runs for a parity case.
#[derive(Debug)]
pub struct DrawnRuns {
    /// Rows of the batch.
    pub n_rows: usize,
    /// Slots of the state.
    pub n_slots: usize,
    /// The runs that are not padding.
    pub runs: Vec<Run>,
    /// The operator's input.
    pub input: CaseInput,
}

/// Draws up to three runs, which begin with zeros, with their own slot or with a snapshot that others may begin with too;
/// between them are rows of no run.
pub fn draw(draw: &mut Draw<'_>) -> DrawnRuns {
    let n_runs = draw.number(1..=3);
    let (mut n_rows, mut runs, mut numbers) = (0, Vec::new(), Vec::new());
    // The slots after those that are written are snapshots.
    let n_slots = n_runs + 2;
    for i in 0..n_runs {
        let n = draw.number(1..=7);
        let target = n_runs - 1 - i;
        let source = draw.one_of(&[Some(target), None, Some(n_runs), Some(n_runs + 1)]);
        let rows = n_rows..n_rows + n;
        n_rows = rows.end + draw.number(0..=1);
        let number = source.map_or(-1, |slot| slot as i32);
        numbers.push([rows.start as i32, n as i32, number, target as i32]);
        runs.push(Run { rows, source, target });
    }
    if draw.flag() {
        // The order of runs is not that of their rows.
        numbers.reverse();
    }
    if draw.flag() {
        numbers.push([0; 4]);
    }
    let input = CaseInput::i32([4, numbers.len()], numbers.as_flattened()).runs();
    DrawnRuns { n_rows, n_slots, runs, input }
}
