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

    /// Each count of rows, changed by `f`.
    fn map(&self, f: impl Fn(usize) -> usize) -> OutputCounts {
        let OutputCounts { logits, top, k, argmax, hidden } = *self;
        OutputCounts { logits: f(logits), top: f(top), k, argmax: f(argmax), hidden: f(hidden) }
    }
}

/// The numbers of rows that plans are made for: 0, powers of two, and one and a half times those. At most a third of a
/// padded batch is padding.
fn bucket(n: usize) -> usize {
    if n == 0 {
        return 0;
    }
    let power = n.next_power_of_two();
    let between = power / 4 * 3;
    if between >= n && power >= 4 { between } else { power }
}

/// The sizes of a batch. A graph, and so a plan, is made for rounded ones ([`BatchShape::rounded`]).
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

    /// The sizes of the plan that computes a batch of these sizes. Few sizes are in use, so that few plans are made:
    /// numbers of rows are rounded up to buckets, `k` to a multiple of 8 (at most the vocabulary).
    pub fn rounded(self, n_vocab: usize) -> BatchShape {
        let [n_prompt, n_single, n_embedded] = [self.n_prompt, self.n_single, self.n_embedded].map(bucket);
        let k = self.outputs.k.next_multiple_of(8).min(n_vocab);
        let outputs = match self.gather {
            true => self.outputs.map(bucket),
            // Every row of the padded batch gives what all rows want.
            false => self.outputs.map(|n| if n > 0 { n_prompt + n_single } else { 0 }),
        };
        BatchShape {
            n_prompt,
            n_single,
            n_embedded,
            outputs: OutputCounts { k, ..outputs },
            gather: self.gather,
        }
    }

    /// The most rows that a batch of `n_rows` is padded to. Prompt rows and single rows are rounded each by itself.
    pub fn most_rows(n_rows: usize) -> usize {
        n_rows.saturating_add(n_rows / 2)
    }

    /// The shapes of the plans that a session makes before its first step, the widest first: whole chunks of a prompt, one
    /// token of every sequence, and one token of which `want` is wanted.
    pub fn first(ubatch: usize, n_sequences: usize, want: Output, n_vocab: usize) -> Vec<BatchShape> {
        let mut shapes = vec![
            BatchShape::prompt(ubatch, Output::Logits),
            BatchShape::decode(n_sequences, Output::Logits),
            BatchShape::decode(1, Output::Logits),
            BatchShape::decode(1, want),
        ];
        shapes.iter_mut().for_each(|shape| *shape = shape.rounded(n_vocab));
        shapes.dedup();
        shapes
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
pub(in crate::model) struct GraphRequest {
    pub shape: BatchShape,
    /// Number of positions of a row.
    pub n_pos: usize,
    pub cache: CacheLayout,
    pub cache_types: CacheTypes,
    pub portion: Portion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_a_third_of_a_padded_batch_is_padding() {
        for n in 1..5000 {
            let padded = bucket(n);
            assert!(padded >= n && 3 * (padded - n) <= padded, "{n} is padded to {padded}");
            assert!(padded <= BatchShape::most_rows(n));
            assert_eq!(bucket(padded), padded);
        }
        assert_eq!([0, 1, 3, 5, 7, 100, 129].map(bucket), [0, 1, 3, 6, 8, 128, 192]);
        let mixed = BatchShape { n_prompt: 257, ..BatchShape::decode(255, Output::Logits) }.rounded(100);
        assert_eq!((mixed.n_rows(), BatchShape::most_rows(512)), (640, 768));
    }

    /// Few sizes of `k` have plans, and none of them is larger than the vocabulary.
    #[test]
    fn rounded_top_k_fits_the_vocabulary() {
        for (k, rounded) in [(1, 8), (40, 40), (41, 48), (90, 96), (97, 97)] {
            let shape = BatchShape::decode(3, Output::TopK(k)).rounded(97);
            assert_eq!((shape.outputs.k, shape.outputs.top), (rounded, 3), "{k}");
        }
    }

    /// A batch in which all rows want the same has one plan for each number of rows.
    #[test]
    fn padded_rows_of_a_uniform_batch_have_one_plan() {
        let all = |n_prompt, n_single| BatchShape {
            n_prompt,
            ..BatchShape {
                outputs: OutputCounts::of(Output::Logits, n_prompt + n_single),
                ..BatchShape::decode(n_single, Output::Logits)
            }
        };
        assert_eq!(all(100, 20).rounded(97), all(120, 24).rounded(97));
        assert_eq!(all(100, 20).rounded(97).outputs.logits, 128 + 24);
    }
}
