//! The sizes of a batch that a graph is made for, and the part of the model that it computes.

use std::ops::Range;

use crate::model::{CacheLayout, CacheTypes};

/// A wish for one row of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Output {
    /// Nothing.
    Nothing,
    /// The logits of the next token, F32 `[n_vocab]`.
    #[default]
    Logits,
    /// The token with the largest logit; of equal ones the first.
    Argmax,
    /// So many tokens with the largest logits, the largest first, and these logits; of equal ones the first.
    TopK(usize),
    /// The hidden state after the model's last norm, F32 `[n_embd]`.
    Hidden,
}

/// How many rows want what. Of the rows that a graph gives, those with logits come first, then those in the order of the
/// fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model) struct OutputCounts {
    pub logits: usize,
    pub top: usize,
    /// Logits of each row of `top`.
    pub k: usize,
    pub argmax: usize,
    pub hidden: usize,
}

impl OutputCounts {
    /// `n` rows that all want the same.
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

    /// All rows that something is wanted of.
    pub fn total(&self) -> usize {
        self.with_logits() + self.hidden
    }

    /// Whether all of them want the same.
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

/// The sizes of a batch that a graph, and so a plan, is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model) struct BatchShape {
    /// Rows of prompt chunks: many rows of a sequence. They come first.
    pub n_prompt: usize,
    /// Rows of sequences with one or few rows each.
    pub n_single: usize,
    /// Embedding rows that the batch brings along.
    pub n_embedded: usize,
    /// What the graph gives.
    pub outputs: OutputCounts,
    /// Whether outputs are of rows that the input `wanted` names; else row `i` of the outputs is row `i` of the batch.
    pub gather: bool,
}

/// Rows of one sequence from which on they count as a chunk of a prompt. Attention takes prompt chunks in tiles of rows
/// that share their keys; a tile of fewer rows would be mostly empty.
pub(in crate::model) const PROMPT_ROWS: usize = 16;

impl BatchShape {
    /// `n` rows of one sequence, of which the last wants this.
    pub fn prompt(n: usize, output: Output) -> BatchShape {
        let (n_prompt, n_single) = if n < PROMPT_ROWS { (0, n) } else { (n, 0) };
        let outputs = OutputCounts::of(output, 1);
        BatchShape { n_prompt, n_single, n_embedded: 0, outputs, gather: n > 1 }
    }

    /// One row for each of `n` sequences, which all want this.
    pub fn decode(n: usize, output: Output) -> BatchShape {
        let outputs = OutputCounts::of(output, n);
        BatchShape { n_prompt: 0, n_single: n, n_embedded: 0, outputs, gather: false }
    }

    /// All rows.
    pub fn n_rows(&self) -> usize {
        self.n_prompt + self.n_single
    }

    /// Rows that the graph gives something of.
    pub fn n_outputs(&self) -> usize {
        if self.gather { self.outputs.total() } else { self.n_rows() }
    }
}

/// Which part of a model a graph computes: what runs on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Its layers.
    pub layers: Range<usize>,
    /// Whether it starts from tokens, and not from what the portion before gives.
    pub embeds: bool,
    /// Whether it ends as the model does, and not with what the portion after takes.
    pub head: bool,
}

impl Portion {
    /// A whole model of so many layers.
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

    /// Whether it is all of the model.
    pub fn is_whole(&self) -> bool {
        self.embeds && self.head
    }
}

/// A graph that a session asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::model) struct Request {
    pub shape: BatchShape,
    /// Positions that a row carries.
    pub n_pos: usize,
    pub cache: CacheLayout,
    pub cache_types: CacheTypes,
    pub portion: Portion,
}
