//! Paged state: the block of memory that holds each token of each sequence.
//!
//! Memory is divided into blocks of a fixed number of tokens, one pool for all sequences. A sequence owns a list of
//! blocks, its block table; its token `p` is in slot `table[p / block] * block + p % block`. Blocks are allocated one
//! by one (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023). Full
//! blocks are shared by the sequences that begin with the same tokens, and stay findable for later ones (`blocks.rs`).
//!
//! The block that a sequence's next token is written to is never findable, so shared blocks are not written.

use std::ops::Range;

use super::blocks::{Blocks, NO_TOKEN, NONE, Parent, Prefix};
use super::{BLOCK_SIZE, CacheLayout, SequenceState};
use crate::model::ModelError;

/// The pool of blocks, and the block table of each sequence.
#[derive(Clone, Debug)]
pub(super) struct Paged {
    blocks_per_sequence: usize,
    pub blocks: Blocks,
    /// The block tables, `[blocks_per_sequence, n_sequences]`; -1 where a sequence has no block.
    pub tables: Vec<i32>,
    /// Each sequence's salt: see [`Parent`].
    pub salts: Vec<u64>,
}

impl Paged {
    /// A pool of idle blocks.
    pub fn new(layout: CacheLayout) -> Paged {
        Paged {
            blocks_per_sequence: layout.blocks_per_sequence,
            blocks: Blocks::new(layout.n_blocks),
            tables: vec![NONE; layout.blocks_per_sequence * layout.n_sequences],
            salts: vec![0; layout.n_sequences],
        }
    }

    /// The slot of a position of a sequence; -1 if the sequence has no block for it.
    pub fn slot(&self, seq: usize, position: usize) -> i32 {
        match self.entry(seq, position / BLOCK_SIZE) {
            NONE => -1,
            block => block * BLOCK_SIZE as i32 + (position % BLOCK_SIZE) as i32,
        }
    }

    /// Block `n` of a sequence; [`NONE`] if it has fewer.
    fn entry(&self, seq: usize, n: usize) -> i32 {
        let inside = n < self.blocks_per_sequence;
        let entry = self.tables.get(seq * self.blocks_per_sequence + n).copied();
        entry.filter(|_| inside).unwrap_or(NONE)
    }

    fn table_mut(&mut self, seq: usize) -> &mut [i32] {
        let first = seq * self.blocks_per_sequence;
        self.tables.get_mut(first..first + self.blocks_per_sequence).unwrap_or_default()
    }

    /// The findable prefix of a sequence's first `len` tokens, where `len` is a whole number of blocks.
    pub fn prefix(&self, seq: usize, len: usize) -> Option<Prefix> {
        match len % BLOCK_SIZE {
            0 if len > 0 => self.blocks.prefix(self.entry(seq, len / BLOCK_SIZE - 1)),
            _ => None,
        }
    }

    /// The token at a position of a sequence.
    pub fn token(&self, seq: usize, position: usize) -> u32 {
        match self.slot(seq, position) {
            -1 => NO_TOKEN,
            slot => self.blocks.token(slot),
        }
    }

    /// The parent of a block of a sequence, given the block before it.
    fn parent(&self, seq: usize, before: i32) -> Parent {
        Parent::of(before, self.salts.get(seq).copied().unwrap_or_default())
    }

    /// Makes full block `n` of a sequence findable, unless a block with the same prefix is.
    fn publish(&mut self, seq: usize, n: usize) {
        let before = if n == 0 { NONE } else { self.entry(seq, n - 1) };
        let block = self.entry(seq, n);
        let rooted = n == 0 || self.blocks.is_findable(before);
        let parent = self.parent(seq, before);
        let tokens = self.blocks.tokens(block);
        if rooted && !tokens.contains(&NO_TOKEN) && self.blocks.find(parent, tokens).is_none() {
            self.blocks.publish(block, parent);
        }
    }

    /// Makes the full blocks from `keep` on findable, which the sequence releases next, as far as they are not yet
    /// because a block with the same prefix was. Returns the last findable block of the sequence's prefix.
    fn publish_rest(&mut self, seq: usize, len: usize, keep: usize) -> i32 {
        let mut last = NONE;
        for n in 0..len / BLOCK_SIZE {
            let block = self.entry(seq, n);
            let tokens = self.blocks.tokens(block);
            if self.blocks.is_findable(block) {
                last = block;
            } else if tokens.contains(&NO_TOKEN) {
                break;
            } else if let Some(same) = self.blocks.find(self.parent(seq, last), tokens) {
                last = same;
            } else if n >= keep {
                self.blocks.publish(block, self.parent(seq, last));
                last = block;
            } else {
                // The sequence keeps the block, and may not hold the block's parent.
                break;
            }
        }
        last
    }

    /// The blocks that a sequence of `len` tokens, which has all their blocks, must take to hold `n` more.
    fn missing(&self, seq: usize, len: usize, n: usize) -> Range<usize> {
        let end = (len + n).div_ceil(BLOCK_SIZE);
        let mut next = len.div_ceil(BLOCK_SIZE)..end;
        // Some may already be reserved.
        next.find(|&n| self.entry(seq, n) == NONE).unwrap_or(end)..end
    }
}

impl SequenceState for Paged {
    fn reserve(&mut self, seq: usize, len: usize, n: usize) -> Result<(), ModelError> {
        let (missing, idle) = (self.missing(seq, len, n), self.blocks.n_idle());
        if missing.len() > idle {
            let [needed, free, total] = [missing.len(), idle, self.blocks.len()].map(|n| n * BLOCK_SIZE);
            return Err(ModelError::CacheFull { needed, free, total });
        }
        for block in missing {
            let taken = self.blocks.take();
            if let Some(entry) = self.table_mut(seq).get_mut(block) {
                *entry = taken;
            }
        }
        Ok(())
    }

    fn advance(&mut self, seq: usize, len: usize, tokens: &[u32], _: Option<Prefix>) {
        for (position, &token) in (len..).zip(tokens) {
            let slot = self.slot(seq, position);
            if slot >= 0 {
                self.blocks.set_token(slot, token);
            }
            if (position + 1).is_multiple_of(BLOCK_SIZE) && slot >= 0 {
                self.publish(seq, position / BLOCK_SIZE);
            }
        }
    }

    /// A partly kept block is written again, so no other sequence may hold it.
    fn can_rewind(&self, seq: usize, len: usize, to: usize, _: &Paged) -> usize {
        let block = self.entry(seq, to / BLOCK_SIZE);
        let within = to % BLOCK_SIZE;
        let shared = block != NONE && self.blocks.is_findable(block) && self.blocks.holders(block) > 1;
        if to >= len || within == 0 || !shared { to.min(len) } else { to - within }
    }

    fn rewind(&mut self, seq: usize, len: usize, to: usize, _: Option<Prefix>) {
        let keep = to.div_ceil(BLOCK_SIZE);
        let last = self.publish_rest(seq, len, keep);
        for n in (keep..self.blocks_per_sequence).rev() {
            let block = self.entry(seq, n);
            if block != NONE {
                self.table_mut(seq)[n] = NONE;
                self.blocks.release(block);
            }
        }
        self.blocks.touch(last);
        let block = self.entry(seq, to / BLOCK_SIZE);
        if !to.is_multiple_of(BLOCK_SIZE) && block != NONE && self.blocks.is_findable(block) {
            self.blocks.forget(block);
        }
    }

    fn share(&mut self, seq: usize, prefix: Prefix) {
        let mut chain = prefix.block;
        let parent = |&block: &i32| Some(self.blocks.parent(block)).filter(|&parent| parent != NONE);
        let n = std::iter::successors(Some(chain), parent).count();
        for at in (0..n).rev() {
            self.blocks.hold(chain);
            if let Some(entry) = self.table_mut(seq).get_mut(at) {
                *entry = chain;
            }
            chain = self.blocks.parent(chain);
        }
    }
}
