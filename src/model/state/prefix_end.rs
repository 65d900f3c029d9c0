//! The reason why a prefix match stops.

use std::fmt;

use super::blocks::{Blocks, Parent};
use super::{BLOCK_SIZE, States};

/// The reason why no more of a prompt's first tokens were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefixEnd {
    /// No longer match is possible: only whole blocks match, and the last token is always computed.
    Whole,
    /// Another token follows in the nearest stored sequence, at this position.
    Differs(usize),
    /// Sequences of another salt share this many tokens.
    Salted(usize),
    /// Keys and values of this many tokens are there, but no recurrent state at their end.
    NoRecurrentState(usize),
    /// Nothing is stored after the prefix. `true`: it may have been, as blocks were displaced since the start.
    Missing(bool),
}

impl fmt::Display for PrefixEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixEnd::Whole => f.write_str("no further whole block comes before its last token"),
            PrefixEnd::Differs(at) => write!(f, "token {at} differs from the stored one"),
            PrefixEnd::Salted(n) => write!(f, "{n} tokens are stored under another key or salt"),
            PrefixEnd::NoRecurrentState(n) => {
                write!(f, "{n} tokens are stored, but no snapshot of the recurrent state at their end")
            }
            PrefixEnd::Missing(false) => f.write_str("no more was ever computed"),
            PrefixEnd::Missing(true) => {
                f.write_str("no more is stored: it was never computed, or displaced since")
            }
        }
    }
}

impl States {
    /// The reason why a sequence with this salt finds only the first `found` of these tokens.
    pub fn prefix_end(&self, salt: u64, tokens: &[u32], found: usize) -> PrefixEnd {
        let blocks = &self.paged.blocks;
        if found + BLOCK_SIZE > tokens.len().saturating_sub(1) {
            return PrefixEnd::Whole;
        }
        let (last, n) = blocks.find_all(salt, tokens);
        if n * BLOCK_SIZE > found.next_multiple_of(BLOCK_SIZE) {
            return PrefixEnd::NoRecurrentState(n * BLOCK_SIZE);
        }
        if let Some(more) = blocks.of_other_salts(salt, tokens).filter(|more| *more > found) {
            return PrefixEnd::Salted(more);
        }
        let next = &tokens[n * BLOCK_SIZE..];
        match blocks.nearest(Parent::of(last, salt), next) {
            Some(common) => PrefixEnd::Differs(n * BLOCK_SIZE + common),
            None => PrefixEnd::Missing(blocks.has_forgotten()),
        }
    }
}

impl Blocks {
    /// The most tokens that a findable child of `parent` begins with; `None` without children.
    fn nearest(&self, parent: Parent, tokens: &[u32]) -> Option<usize> {
        let common = |block| self.tokens(block).iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.children(parent).map(common).max()
    }

    /// The most of these tokens that are found with any other salt; `None` if there is no other.
    fn of_other_salts(&self, salt: u64, tokens: &[u32]) -> Option<usize> {
        let others = self.first_salts().filter(|other| *other != salt);
        others.map(|other| self.find_all(other, tokens).1 * BLOCK_SIZE).max()
    }
}
