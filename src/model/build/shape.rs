//! The sizes of a batch for which a graph is built, and the portion of the model that it computes.

use std::ops::Range;

use crate::model::{CacheLayout, CacheTypes};

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

/// The number of rows with each output. Rows with logits come first in the graph's outputs, then the others in the
/// order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model) struct OutputCounts {
    pub logits: usize,
    pub top: usize,
    /// Candidates of each row of `top`: the largest `k`, rounded up.
    pub k: usize,
    pub argmax: usize,
    pub hidden: usize,
}

impl OutputCounts {
    /// `n` rows that want the same output.
    pub fn of(output: Output, n: usize) -> OutputCounts {
        let none = OutputCounts::default();
        match output {
            Output::Nothing => none,
            Output::Logits => OutputCounts { logits: n, ..none },
            Output::Argmax => OutputCounts { argmax: n, ..none },
            Output::TopK(k) => OutputCounts { top: n, k, ..none },
            Output::Hidden => OutputCounts { hidden: n, ..none },
        }
    }

    /// Rows that need the output matrix.
    pub fn with_logits(&self) -> usize {
        self.logits + self.top + self.argmax
    }

    /// All rows that have an output.
    pub fn total(&self) -> usize {
        self.with_logits() + self.hidden
    }

    /// All rows want the same output.
    pub fn is_uniform(&self) -> bool {
        [self.logits, self.top, self.argmax, self.hidden].iter().filter(|&&n| n > 0).count() <= 1
    }

    /// Each count, rounded up by `round`.
    pub fn map(&self, round: impl Fn(usize) -> usize) -> OutputCounts {
        let OutputCounts { logits, top, k, argmax, hidden } = *self;
        OutputCounts {
            logits: round(logits),
            top: round(top),
            k,
            argmax: round(argmax),
            hidden: round(hidden),
        }
    }
}

/// The sizes of a batch for which a graph, and so a plan, is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model) struct BatchShape {
    /// Rows of prompt chunks, with many rows per sequence. They come first.
    pub n_prompt: usize,
    /// Rows of sequences with one or few rows each.
    pub n_single: usize,
    /// Embedding rows of the batch.
    pub n_embedded: usize,
    /// The outputs of the graph.
    pub outputs: OutputCounts,
    /// The input `wanted` names the rows of the outputs; else row `i` of the outputs is row `i` of the batch.
    pub gather: bool,
}

/// From this many rows on, the rows of a sequence count as a prompt chunk. Attention computes prompt chunks in tiles of
/// rows that share their keys; a tile of fewer rows would be mostly empty.
pub(in crate::model) const PROMPT_ROWS: usize = 16;

impl BatchShape {
    /// `n` rows of one sequence, of which the last has this output.
    pub fn prompt(n: usize, output: Output) -> BatchShape {
        let (n_prompt, n_single) = if n < PROMPT_ROWS { (0, n) } else { (n, 0) };
        let outputs = OutputCounts::of(output, 1);
        BatchShape { n_prompt, n_single, n_embedded: 0, outputs, gather: n > 1 }
    }

    /// One row for each of `n` sequences, all with this output.
    pub fn decode(n: usize, output: Output) -> BatchShape {
        let outputs = OutputCounts::of(output, n);
        BatchShape { n_prompt: 0, n_single: n, n_embedded: 0, outputs, gather: false }
    }

    /// All rows.
    pub fn n_rows(&self) -> usize {
        self.n_prompt + self.n_single
    }

    /// Rows that have an output of the graph.
    pub fn n_outputs(&self) -> usize {
        if self.gather { self.outputs.total() } else { self.n_rows() }
    }
}

/// The portion of a model that a graph computes on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The layers.
    pub layers: Range<usize>,
    /// The portion starts from tokens, and not from the output of the previous portion.
    pub embeds: bool,
    /// The portion ends with the model's head, and not with the input of the next portion.
    pub head: bool,
}

impl Portion {
    /// A whole model of `n_layer` layers.
    pub fn whole(n_layer: usize) -> Portion {
        Portion { layers: 0..n_layer, embeds: true, head: true }
    }

    /// A model cut before layer `at`.
    pub fn split(n_layer: usize, at: usize) -> [Portion; 2] {
        [
            Portion { layers: 0..at, embeds: true, head: false },
            Portion { layers: at..n_layer, embeds: false, head: true },
        ]
    }

    /// The portion is the whole model.
    pub fn is_whole(&self) -> bool {
        self.embeds && self.head
    }
}

/// A graph that a session requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::model) struct Request {
    pub shape: BatchShape,
    /// Number of positions of a row.
    pub n_pos: usize,
    pub cache: CacheLayout,
    pub cache_types: CacheTypes,
    pub portion: Portion,
}
