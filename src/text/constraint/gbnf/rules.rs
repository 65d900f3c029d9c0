//! Rules of a grammar: alternatives of sequences of terminals and rules.

use std::ops::RangeInclusive;

/// A symbol of a rule: a terminal or a rule, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Symbol {
    Terminal(usize),
    Rule(usize),
}

/// Matches a character, or a token as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Terminal {
    /// A regular expression of exactly one character.
    Character(String),
    /// A token with one of these ids.
    Token(Vec<RangeInclusive<u32>>),
}

/// Symbols in a row.
pub(crate) type Sequence = Vec<Symbol>;

/// The rules of a grammar.
pub(crate) struct Rules {
    /// The alternatives of each rule.
    pub(crate) alternatives: Vec<Vec<Sequence>>,
    pub(crate) terminals: Vec<Terminal>,
    /// The rule that a text begins with.
    pub(crate) root: usize,
}

impl Rules {
    /// Adds a rule, and returns its number.
    pub(crate) fn add(&mut self, alternatives: Vec<Sequence>) -> usize {
        self.alternatives.push(alternatives);
        self.alternatives.len() - 1
    }

    /// Rules that hold, where a rule holds if all symbols of one of its alternatives do. Each rule is looked at once for
    /// every use of a rule: the time is linear in the size of the grammar.
    fn closure(&self, terminals: bool) -> Vec<bool> {
        // Alternatives by number: their rule, and how many symbols do not hold yet.
        let (mut owner, mut missing) = (Vec::new(), Vec::new());
        let mut uses: Vec<Vec<usize>> = vec![Vec::new(); self.alternatives.len()];
        let mut holds = vec![false; self.alternatives.len()];
        let mut todo = Vec::new();
        for (rule, alternatives) in self.alternatives.iter().enumerate() {
            for sequence in alternatives {
                let mut count = 0;
                for symbol in sequence {
                    match *symbol {
                        Symbol::Terminal(_) if terminals => {}
                        Symbol::Terminal(_) => count += 1,
                        Symbol::Rule(used) => {
                            uses[used].push(owner.len());
                            count += 1;
                        }
                    }
                }
                if count == 0 && !std::mem::replace(&mut holds[rule], true) {
                    todo.push(rule);
                }
                owner.push(rule);
                missing.push(count);
            }
        }
        while let Some(rule) = todo.pop() {
            for &alternative in &uses[rule] {
                missing[alternative] -= 1;
                if missing[alternative] == 0 && !std::mem::replace(&mut holds[owner[alternative]], true) {
                    todo.push(owner[alternative]);
                }
            }
        }
        holds
    }

    /// Drops alternatives that never end. False if then no text is left.
    pub(crate) fn drop_endless(&mut self) -> bool {
        let ends = self.closure(true);
        let all_end = |sequence: &Sequence| {
            sequence.iter().all(|symbol| !matches!(*symbol, Symbol::Rule(rule) if !ends[rule]))
        };
        for alternatives in &mut self.alternatives {
            alternatives.retain(all_end);
        }
        ends[self.root]
    }

    /// Gives each rule that derives the empty text an empty alternative. The library would find these rules one after
    /// another, in quadratic time for long chains.
    pub(crate) fn mark_nullable(&mut self) {
        let nullable = self.closure(false);
        for (rule, alternatives) in self.alternatives.iter_mut().enumerate() {
            if nullable[rule] && !alternatives.iter().any(Vec::is_empty) {
                alternatives.push(Vec::new());
            }
        }
    }

    /// The rules that the root uses, in the order of their first use, the root first.
    pub(crate) fn reachable(&self) -> Vec<usize> {
        let mut seen = vec![false; self.alternatives.len()];
        let mut order = vec![self.root];
        seen[self.root] = true;
        let mut at = 0;
        while let Some(&rule) = order.get(at) {
            for symbol in self.alternatives[rule].iter().flatten() {
                if let Symbol::Rule(used) = *symbol
                    && !std::mem::replace(&mut seen[used], true)
                {
                    order.push(used);
                }
            }
            at += 1;
        }
        order
    }
}
