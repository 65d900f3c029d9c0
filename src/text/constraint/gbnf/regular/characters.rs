//! Terminals as sets of characters, and the classes of characters that no terminal tells apart.

use std::collections::{BTreeMap, BTreeSet};

use regex_syntax::hir::{Class, HirKind};

use crate::text::constraint::gbnf::rules::Terminal;

/// The most ranges of characters of an automaton's terminals: each is compared with the ends of all.
const MOST_RANGES: usize = 4000;

/// Ranges of characters, as numbers, both ends included.
type Ranges = Vec<(u32, u32)>;

/// The classes of the characters of some terminals.
pub(super) struct Classes {
    /// The characters of each class.
    ranges: Vec<Ranges>,
    /// The classes of each terminal.
    of_terminal: BTreeMap<usize, Vec<usize>>,
}

impl Classes {
    /// The classes of these terminals; `None` if there are too many, or one is not a set of characters.
    pub(super) fn of(terminals: &BTreeSet<usize>, all: &[Terminal]) -> Option<Classes> {
        let (mut sets, mut n_ranges) = (Vec::new(), 0);
        for &terminal in terminals {
            let Terminal::Character(regex) = &all[terminal] else { return None };
            let set = characters(regex)?;
            n_ranges += set.len();
            if n_ranges > MOST_RANGES {
                return None;
            }
            sets.push(set);
        }
        // Between two of these numbers all characters are in the same terminals.
        let bounds: BTreeSet<u32> =
            sets.iter().flatten().flat_map(|&(first, last)| [first, last + 1]).collect();
        let bounds: Vec<u32> = bounds.into_iter().collect();
        let mut by_terminals: BTreeMap<Vec<usize>, Ranges> = BTreeMap::new();
        for pair in bounds.windows(2) {
            let is_in = |set: &Ranges| set.iter().any(|&(first, last)| first <= pair[0] && pair[0] <= last);
            let inside: Vec<usize> = terminals
                .iter()
                .zip(&sets)
                .filter(|(_, set)| is_in(set))
                .map(|(&terminal, _)| terminal)
                .collect();
            if !inside.is_empty() {
                by_terminals.entry(inside).or_default().push((pair[0], pair[1] - 1));
            }
        }
        let mut classes = Classes { ranges: Vec::new(), of_terminal: BTreeMap::new() };
        for (class, (terminals, ranges)) in by_terminals.into_iter().enumerate() {
            classes.ranges.push(ranges);
            for terminal in terminals {
                classes.of_terminal.entry(terminal).or_default().push(class);
            }
        }
        Some(classes)
    }

    /// The classes of a terminal.
    pub(super) fn of_terminal(&self, terminal: usize) -> &[usize] {
        self.of_terminal.get(&terminal).map_or(&[], Vec::as_slice)
    }

    /// The number of ranges of a class.
    pub(super) fn n_ranges(&self, class: usize) -> usize {
        self.ranges[class].len()
    }

    /// A regular expression of one character of these classes.
    pub(super) fn regex(&self, classes: &BTreeSet<usize>) -> String {
        let ranges = classes.iter().flat_map(|&class| &self.ranges[class]);
        let range = |&(first, last): &(u32, u32)| format!(r"\x{{{first:X}}}-\x{{{last:X}}}");
        format!("[{}]", ranges.map(range).collect::<String>())
    }
}

/// The characters that a regular expression of one character matches.
fn characters(regex: &str) -> Option<Ranges> {
    let hir = regex_syntax::parse(regex).ok()?;
    match hir.kind() {
        HirKind::Literal(literal) => {
            let mut characters = std::str::from_utf8(&literal.0).ok()?.chars();
            let character = u32::from(characters.next()?);
            characters.next().is_none().then(|| vec![(character, character)])
        }
        HirKind::Class(Class::Unicode(class)) => {
            Some(class.ranges().iter().map(|range| (range.start().into(), range.end().into())).collect())
        }
        _ => None,
    }
}
