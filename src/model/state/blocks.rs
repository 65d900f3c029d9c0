//! The blocks of paged state: the number of sequences that hold each block, and a tree of the prefixes in full blocks.
//!
//! A full block is *findable*: it is in a tree in which a block's parent holds the tokens before its own, so that a
//! walk from the root finds the blocks of a prefix (Zheng et al., "SGLang: Efficient Execution of Structured Language
//! Model Programs", 2023). Tokens are compared one by one, without hashes. Findable blocks are not written. A block
//! that no sequence holds is *idle*: it stays findable until its memory is needed; the least recently used idle block
//! is taken first.
//!
//! Invariant, kept by the callers: a sequence that holds a findable block also holds its parent. So the descendants of
//! an idle block are idle.

use super::BLOCK_SIZE;

/// Marks an absent block: at the end of a list, and as parent of the first block of a sequence.
pub(super) const NONE: i32 = -1;

/// Stands for the token of an embedding row. A block with such a row is never findable.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// A findable prefix, identified by its last block. It is invalid once the block has been forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub block: i32,
    /// [`Block::forgotten`] when the prefix was created.
    forgotten: u32,
}

/// The block before a block of a sequence. Sequences of different salts share no blocks: the salt belongs to the first
/// block, since all others are found through it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent {
    /// None: the block is the first of a sequence with this salt.
    Root(u64),
    /// A findable block.
    Block(i32),
}

impl Parent {
    /// The parent `block`, which is [`NONE`] for the first block of a sequence.
    pub fn of(block: i32, salt: u64) -> Parent {
        if block == NONE { Parent::Root(salt) } else { Parent::Block(block) }
    }
}

#[derive(Clone, Debug)]
struct Block {
    /// The number of sequences that hold the block.
    holders: u32,
    findable: bool,
    /// The number of times that the block stopped being findable.
    forgotten: u32,
    parent: i32,
    /// The salt of a findable block without a parent: see [`Parent`].
    salt: u64,
    first_child: i32,
    /// The neighbours in the list of the parent's children.
    next: i32,
    previous: i32,
    /// The neighbours in the list of idle blocks.
    older: i32,
    newer: i32,
}

/// All blocks of a cache.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// The token in each slot.
    tokens: Vec<u32>,
    /// The head of the list of findable blocks that begin a sequence.
    first: i32,
    /// Both ends of the list of idle blocks.
    oldest: i32,
    newest: i32,
    n_idle: usize,
}

impl Blocks {
    /// Bytes of `n` blocks' records.
    pub fn bytes(n: usize) -> usize {
        n * (size_of::<Block>() + BLOCK_SIZE * size_of::<u32>())
    }

    /// `n` idle blocks.
    pub fn new(n: usize) -> Blocks {
        let block = Block {
            holders: 0,
            findable: false,
            forgotten: 0,
            parent: NONE,
            salt: 0,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            older: NONE,
            newer: NONE,
        };
        let (blocks, tokens) = (vec![block; n], vec![0; n * BLOCK_SIZE]);
        let mut blocks = Blocks { blocks, tokens, first: NONE, oldest: NONE, newest: NONE, n_idle: 0 };
        (0..n as i32).for_each(|block| blocks.add_newest(block));
        blocks
    }

    /// The number of blocks that no sequence holds.
    pub fn n_idle(&self) -> usize {
        self.n_idle
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The prefix that ends with a block; `None` if the block is not findable.
    pub fn prefix(&self, block: i32) -> Option<Prefix> {
        let found = self.blocks.get(usize::try_from(block).ok()?)?;
        found.findable.then_some(Prefix { block, forgotten: found.forgotten })
    }

    fn at(&self, block: i32) -> &Block {
        &self.blocks[block as usize]
    }

    fn at_mut(&mut self, block: i32) -> &mut Block {
        &mut self.blocks[block as usize]
    }

    /// The number of sequences that hold a block.
    pub fn holders(&self, block: i32) -> u32 {
        self.at(block).holders
    }

    /// True if a block can be found by its tokens.
    pub fn is_findable(&self, block: i32) -> bool {
        self.at(block).findable
    }

    /// The tokens of a full block.
    pub fn tokens(&self, block: i32) -> &[u32] {
        &self.tokens[block as usize * BLOCK_SIZE..][..BLOCK_SIZE]
    }

    /// The token in a slot.
    pub fn token(&self, slot: i32) -> u32 {
        self.tokens[slot as usize]
    }

    /// Records the token that is written to a slot.
    pub fn set_token(&mut self, slot: i32, token: u32) {
        self.tokens[slot as usize] = token;
    }

    /// Takes the least recently used idle block and forgets its content. [`NONE`] if no block is idle.
    pub fn take(&mut self) -> i32 {
        let block = self.oldest;
        if block != NONE {
            self.forget(block);
            self.hold(block);
        }
        block
    }

    /// Adds a holder to a block.
    pub fn hold(&mut self, block: i32) {
        if self.at(block).holders == 0 {
            self.remove_idle(block);
        }
        self.at_mut(block).holders += 1;
    }

    /// Removes a holder from a block. The callers release a sequence's last block first: then every block is before its
    /// parent in the list of idle blocks, and a block that is taken has no children.
    pub fn release(&mut self, block: i32) {
        self.at_mut(block).holders -= 1;
        match (self.at(block).holders, self.at(block).findable) {
            (0, true) => self.add_newest(block),
            (0, false) => self.add_oldest(block),
            _ => {}
        }
    }

    /// Makes a block and its ancestors the most recently used.
    pub fn touch(&mut self, mut block: i32) {
        while block != NONE {
            if self.at(block).holders == 0 {
                self.remove_idle(block);
                self.add_newest(block);
            }
            block = self.at(block).parent;
        }
    }

    /// The findable child of `parent` that holds these tokens.
    pub fn find(&self, parent: Parent, tokens: &[u32]) -> Option<i32> {
        self.children(parent).find(|&block| self.tokens(block) == tokens)
    }

    /// The findable children of `parent`.
    pub fn children(&self, parent: Parent) -> impl Iterator<Item = i32> {
        let (first, salt) = match parent {
            Parent::Root(salt) => (self.first, salt),
            Parent::Block(block) => (self.at(block).first_child, 0),
        };
        self.siblings(first).filter(move |&block| self.at(block).salt == salt)
    }

    fn siblings(&self, first: i32) -> impl Iterator<Item = i32> {
        let next = |block: i32| (block != NONE).then_some(block);
        std::iter::successors(next(first), move |&block| next(self.at(block).next))
    }

    /// The salts of the findable blocks that begin a sequence.
    pub fn first_salts(&self) -> impl Iterator<Item = u64> {
        self.siblings(self.first).map(|block| self.at(block).salt)
    }

    /// True if a block has ever stopped being findable.
    pub fn has_forgotten(&self) -> bool {
        self.blocks.iter().any(|block| block.forgotten > 0)
    }

    /// Finds the blocks of the longest findable prefix of these tokens: the last block, and the number of blocks.
    pub fn find_all(&self, salt: u64, tokens: &[u32]) -> (i32, usize) {
        let (mut last, mut n) = (NONE, 0);
        for tokens in tokens.chunks_exact(BLOCK_SIZE) {
            let Some(block) = self.find(Parent::of(last, salt), tokens) else { break };
            (last, n) = (block, n + 1);
        }
        (last, n)
    }

    /// The block that holds the tokens before a findable one's.
    pub fn parent(&self, block: i32) -> i32 {
        self.at(block).parent
    }

    /// Makes a full block findable as a child of `parent`, which is findable and has no child with the same tokens.
    pub fn publish(&mut self, block: i32, parent: Parent) {
        debug_assert!(!self.is_findable(block), "block {block} is in the tree");
        let (parent, salt) = match parent {
            Parent::Root(salt) => (NONE, salt),
            Parent::Block(parent) => (parent, 0),
        };
        let first = self.first_after(parent);
        let next = std::mem::replace(first, block);
        if next != NONE {
            self.at_mut(next).previous = block;
        }
        let new = self.at_mut(block);
        (new.findable, new.parent, new.next, new.previous) = (true, parent, next, NONE);
        new.salt = salt;
    }

    /// Removes a block and its descendants, which are idle, from the tree.
    pub fn forget(&mut self, block: i32) {
        let mut at = block;
        while self.at(block).findable {
            let child = self.at(at).first_child;
            if child == NONE {
                let parent = self.at(at).parent;
                self.cut(at);
                at = parent;
            } else {
                at = child;
            }
        }
    }

    /// Removes a block without children from the tree.
    fn cut(&mut self, block: i32) {
        let Block { parent, next, previous, holders, .. } = *self.at(block);
        if next != NONE {
            self.at_mut(next).previous = previous;
        }
        match previous {
            NONE => *self.first_after(parent) = next,
            previous => self.at_mut(previous).next = next,
        }
        let cut = self.at_mut(block);
        (cut.findable, cut.parent, cut.next, cut.previous) = (false, NONE, NONE, NONE);
        cut.forgotten = cut.forgotten.wrapping_add(1);
        if holders == 0 {
            self.remove_idle(block);
            self.add_oldest(block);
        }
    }

    fn first_after(&mut self, parent: i32) -> &mut i32 {
        if parent == NONE { &mut self.first } else { &mut self.at_mut(parent).first_child }
    }

    fn remove_idle(&mut self, block: i32) {
        self.n_idle -= 1;
        let Block { older, newer, .. } = *self.at(block);
        *self.newer_than(older) = newer;
        *self.older_than(newer) = older;
    }

    fn add_newest(&mut self, block: i32) {
        self.n_idle += 1;
        let older = self.newest;
        *self.newer_than(older) = block;
        self.newest = block;
        (self.at_mut(block).older, self.at_mut(block).newer) = (older, NONE);
    }

    fn add_oldest(&mut self, block: i32) {
        self.n_idle += 1;
        let newer = self.oldest;
        *self.older_than(newer) = block;
        self.oldest = block;
        (self.at_mut(block).older, self.at_mut(block).newer) = (NONE, newer);
    }

    /// The link to the block after `block` in the list of idle blocks; for [`NONE`], the link to the oldest.
    fn newer_than(&mut self, block: i32) -> &mut i32 {
        if block == NONE { &mut self.oldest } else { &mut self.at_mut(block).newer }
    }

    /// The link to the block before `block` in the list of idle blocks; for [`NONE`], the link to the newest.
    fn older_than(&mut self, block: i32) -> &mut i32 {
        if block == NONE { &mut self.newest } else { &mut self.at_mut(block).older }
    }
}

#[cfg(test)]
impl Blocks {
    /// Panics unless lists and tree are consistent; returns the number of idle blocks.
    pub fn check(&self) -> usize {
        let mut idle = Vec::new();
        let mut at = self.oldest;
        while at != NONE {
            assert_eq!(self.at(at).older, idle.last().copied().unwrap_or(NONE));
            idle.push(at);
            at = self.at(at).newer;
        }
        assert_eq!(self.newest, idle.last().copied().unwrap_or(NONE));
        for block in 0..self.blocks.len() as i32 {
            let Block { holders, findable, parent, salt, first_child, .. } = *self.at(block);
            assert_eq!(holders == 0, idle.contains(&block), "block {block} is idle or held");
            assert!(findable || (holders <= 1 && first_child == NONE && parent == NONE), "block {block}");
            if findable {
                assert_eq!(
                    self.find(Parent::of(parent, salt), self.tokens(block)),
                    Some(block),
                    "a block has no double"
                );
            }
            if findable && parent != NONE {
                assert!(self.at(parent).findable && self.at(parent).holders >= holders, "block {block}");
                let place = |block| idle.iter().position(|&other| other == block);
                assert!(
                    place(block) < place(parent) || place(parent).is_none(),
                    "{block} goes before {parent}"
                );
            }
        }
        assert_eq!(idle.len(), self.n_idle);
        idle.len()
    }
}
