//! Merging of neighbouring symbols, best pair first: the core of `bpe` and `spm`.
//!
//! A heap of candidate pairs over a linked list of symbols: a text of n symbols takes O(n log n), whatever the length
//! of its words.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A part of the text, which is one token so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// Its start in the text, in bytes.
    pub start: usize,
    /// Its length in bytes; 0 after it merged into the symbol before it.
    pub len: usize,
    /// Its token, or [`NO_TOKEN`].
    pub id: u32,
    previous: usize,
    next: usize,
}

/// The id of a symbol that is not a token. Ids stay below it because a vocabulary has at most 2³¹ − 1 tokens.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// No neighbour.
const END: usize = usize::MAX;

/// The result of looking up a pair: the merged token and its priority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    /// Smaller merges first; among equals the leftmost.
    pub priority: u32,
    /// The merged token.
    pub id: u32,
}

/// A candidate on the heap, ordered by priority, then by position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    priority: u32,
    left: usize,
    /// Length of both in bytes. Symbols only grow, so a pair whose length changed is stale.
    len: usize,
    id: u32,
}

/// Symbols of one word or text, and the working memory to merge them; reused from word to word.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<Pair>>,
}

impl Merger {
    /// Starts a new text.
    pub fn clear(&mut self) {
        self.symbols.clear();
        self.heap.clear();
    }

    /// Appends the next `len` > 0 bytes as one symbol.
    pub fn push(&mut self, len: usize, id: u32) {
        let index = self.symbols.len();
        let start = self.symbols.last().map_or(0, |last| last.start + last.len);
        let previous = index.checked_sub(1).unwrap_or(END);
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        self.symbols.push(Symbol { start, len, id, previous, next: END });
    }

    /// Merges until `find` accepts no pair, then passes each remaining symbol to `each` in order.
    pub fn run(
        &mut self,
        mut find: impl FnMut(&Symbol, &Symbol) -> Option<Merge>,
        mut each: impl FnMut(&Symbol),
    ) {
        for left in 1..self.symbols.len() {
            self.consider(left - 1, &mut find);
        }
        while let Some(Reverse(pair)) = self.heap.pop() {
            let left = self.symbols[pair.left];
            if left.len == 0 || left.next == END || left.len + self.symbols[left.next].len != pair.len {
                continue;
            }
            let right = self.symbols[left.next];
            self.symbols[left.next].len = 0;
            self.symbols[pair.left] = Symbol { len: pair.len, id: pair.id, next: right.next, ..left };
            if right.next != END {
                self.symbols[right.next].previous = pair.left;
                self.consider(pair.left, &mut find);
            }
            if left.previous != END {
                self.consider(left.previous, &mut find);
            }
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0).for_each(&mut each);
    }

    /// Pushes the pair that starts at symbol `left` on the heap if it can merge.
    fn consider(&mut self, left: usize, find: &mut impl FnMut(&Symbol, &Symbol) -> Option<Merge>) {
        let (a, b) = (&self.symbols[left], &self.symbols[self.symbols[left].next]);
        if let Some(Merge { priority, id }) = find(a, b) {
            self.heap.push(Reverse(Pair { priority, left, len: a.len + b.len, id }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The definition: scan all pairs, merge the best, repeat.
    fn merge_slowly(mut ids: Vec<u32>, table: &HashMap<(u32, u32), Merge>) -> Vec<u32> {
        loop {
            let best = (1..ids.len())
                .filter_map(|i| table.get(&(ids[i - 1], ids[i])).map(|merge| (merge.priority, i, merge.id)))
                .min();
            let Some((_, i, id)) = best else { return ids };
            ids[i - 1] = id;
            ids.remove(i);
        }
    }

    proptest! {
        #[test]
        fn heap_merges_in_the_order_of_the_definition(
            ids in prop::collection::vec(0u32..4, 0..60),
            merges in prop::collection::hash_map((0u32..12, 0u32..12), 4u32..12, 0..40),
            priorities in prop::collection::vec(0u32..20, 40),
        ) {
            let table: HashMap<(u32, u32), Merge> = merges
                .into_iter()
                .zip(priorities)
                .map(|((pair, id), priority)| (pair, Merge { priority, id }))
                .collect();
            let mut merger = Merger::default();
            ids.iter().for_each(|&id| merger.push(1, id));
            let mut got = Vec::new();
            merger.run(|a, b| table.get(&(a.id, b.id)).copied(), |symbol| got.push(symbol.id));
            prop_assert_eq!(got, merge_slowly(ids, &table));
        }
    }
}
