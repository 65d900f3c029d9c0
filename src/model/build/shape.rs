//! The sizes of a batch for which a graph is built, and the portion of the model that it computes.

use std::ops::Range;

use crate::model::{CacheLayout, CacheTypes, Output};

/// The outputs of a graph. The rows that need the output matrix come first, among them those with logits; then the rows
/// with hidden states. Top-k and arg-max are computed for all rows of the matrix: they cost little beside it, and
/// fewer different graphs are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model) struct OutputCounts {
    /// Rows that need the output matrix.
    pub rows: usize,
    /// The number of them, from the first on, whose logits are an output.
    pub logits: usize,
    /// Candidates of each of `rows`; 0: no top-k.
    pub k: usize,
    /// The arg-max of each of `rows` is an output.
    pub argmax: bool,
    /// Rows with a hidden state.
    pub hidden: usize,
}

impl OutputCounts {
    /// `n` rows that want the same output.
    pub fn of(output: Output, n: usize) -> OutputCounts {
        let mut counts = OutputCounts::default();
        counts.add(output, n);
        counts
    }

    /// Adds `n` rows that want this output.
    pub fn add(&mut self, output: Output, n: usize) {
        match output {
            _ if n == 0 => {}
            Output::Nothing => {}
            Output::Hidden => self.hidden += n,
            Output::Logits => {
                self.rows += n;
                self.logits += n;
            }
            Output::TopK(k) => {
                self.rows += n;
                self.k = self.k.max(k);
            }
            Output::Argmax => {
                self.rows += n;
                self.argmax = true;
            }
        }
    }

    /// All rows that have an output.
    pub fn total(&self) -> usize {
        self.rows + self.hidden
    }

    /// Every output belongs to all of the rows.
    pub fn is_uniform(&self) -> bool {
        let all_logits = self.logits == 0 || self.logits == self.rows;
        if self.rows == 0 { true } else { self.hidden == 0 && all_logits }
    }

    /// The outputs of the plan that computes these, for a batch of `n_rows` padded rows: in few sizes, each at most
    /// twice the wanted one, so that the outputs of some rows cost the others nothing. Top-k rows include the arg-max.
    fn rounded(self, n_rows: usize, gather: bool, n_vocab: usize) -> OutputCounts {
        let OutputCounts { rows, logits, k, argmax, hidden } = self;
        let k = if k == 0 { 0 } else { bucket(k.max(8)).min(n_vocab) };
        let argmax = argmax && k == 0;
        if !gather {
            // Every row of the padded batch gives what all rows want.
            let all = |n: usize| if n > 0 { n_rows } else { 0 };
            return OutputCounts { rows: all(rows), logits: all(logits), k, argmax, hidden: all(hidden) };
        }
        let rows = bucket(rows).min(n_rows);
        OutputCounts { rows, logits: power(logits).min(rows), k, argmax, hidden: power(hidden).min(n_rows) }
    }
}

/// 0, or the smallest power of two that is not less than `n`.
fn power(n: usize) -> usize {
    if n == 0 { 0 } else { n.next_power_of_two() }
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
    /// numbers of rows are rounded up to buckets, embedding rows to powers of two, and outputs as
    /// [`OutputCounts`] describes.
    pub fn rounded(self, n_vocab: usize) -> BatchShape {
        let [n_prompt, n_single] = [self.n_prompt, self.n_single].map(bucket);
        let n_rows = n_prompt + n_single;
        BatchShape {
            n_prompt,
            n_single,
            n_embedded: power(self.n_embedded).min(n_rows),
            outputs: self.outputs.rounded(n_rows, self.gather, n_vocab),
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
        for (k, rounded) in [(1, 8), (40, 48), (48, 48), (49, 64), (90, 96), (97, 97)] {
            let shape = BatchShape::decode(3, Output::TopK(k)).rounded(97);
            assert_eq!((shape.outputs.k, shape.outputs.rows), (rounded, 3), "{k}");
        }
    }

    fn batch(n_prompt: usize, n_single: usize, wants: &[Output]) -> BatchShape {
        let mut outputs = OutputCounts::default();
        wants.iter().for_each(|&want| outputs.add(want, 1));
        let gather = !(outputs.is_uniform() && outputs.total() == n_prompt + n_single);
        BatchShape { n_prompt, n_single, n_embedded: 0, outputs, gather }
    }

    /// Rows that choose among few tokens share a plan, and no row adds more than its own outputs, rounded.
    #[test]
    fn outputs_of_one_row_cost_the_others_nothing() {
        let (top, best) = (Output::TopK(40), Output::Argmax);
        let all = batch(0, 8, &[top; 8]).rounded(1000);
        assert_eq!(batch(0, 7, &[top, best, best, top, top, best, top]).rounded(1000), all);
        let one = batch(0, 8, &[best, best, Output::Logits, best, best, best, best, best]).rounded(1000);
        assert_eq!((one.outputs.rows, one.outputs.logits, one.outputs.argmax), (8, 1, true));
        let hidden = batch(500, 3, &[best, best, best, Output::Hidden]).rounded(1000);
        assert_eq!((hidden.outputs.rows, hidden.outputs.hidden), (3, 1));
        for n in 1..40 {
            for logits in 0..n {
                let wants: Vec<Output> =
                    (0..n).map(|i| if i < logits { Output::Logits } else { top }).collect();
                let found = batch(100, n, &wants).rounded(1000).outputs;
                assert!(found.rows >= n && found.logits >= logits, "{found:?}");
                assert!(found.rows <= n + n / 2 && found.logits <= 2 * logits, "{found:?}");
            }
        }
    }

    /// The sizes of a server's steps: up to 30 sequences, each with its own output, beside chunks of random prompts.
    #[test]
    fn steps_of_a_server_have_few_sizes() {
        let mut random = 1u64;
        let mut draw = |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((random >> 33) % n) as usize
        };
        let mut sizes = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let kinds = [Output::Argmax, Output::TopK(40), Output::TopK(40), Output::Logits];
            let n_single = draw(31);
            let mut wants: Vec<Output> = (0..n_single).map(|_| kinds[draw(4)]).collect();
            let n_prompt = if draw(3) == 0 { 16 + draw(497) } else { 0 };
            if n_prompt > 0 && draw(2) == 0 {
                wants.push(kinds[draw(4)]);
            }
            if n_prompt + n_single > 0 {
                sizes.insert(batch(n_prompt, n_single, &wants).rounded(128_000));
            }
        }
        // 594; with a count of its own for each kind of output they were 2,322.
        assert!(sizes.len() <= 600, "{} sizes", sizes.len());
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
        let outputs = all(100, 20).rounded(97).outputs;
        assert_eq!((outputs.rows, outputs.logits), (128 + 24, 128 + 24));
    }
}
