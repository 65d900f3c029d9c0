//! What a sequence leaves behind for its next tokens.
//!
//! A state has a kind, which the graph declares where it makes the state: *paged* state is addressed by position (keys
//! and values; [`paged`]), *recurrent* state has one size whatever the sequence's length ([`recurrent`]). Every kind
//! answers the same questions ([`StateKind`]); [`States`] asks all kinds that a model has, and owns the sequences.
//!
//! This folder counts tokens, blocks and slots. It knows no tensor, no plan and no device: how many bytes a block or a
//! slot takes is said by the plan's states alone.

mod blocks;
mod layout;
mod paged;
mod recurrent;
#[cfg(test)]
mod tests;

pub use layout::{BLOCK_SIZE, CacheLayout, CacheTypes};

use blocks::{NO_TOKEN, Prefix};
use paged::Paged;
use recurrent::Recurrent;

use super::ModelError;

/// The questions that every kind of state answers. `seq` is a sequence's number, `len` the tokens that it holds.
trait StateKind {
    /// Makes room for `n` more tokens. After an error nothing has changed.
    fn reserve(&mut self, seq: usize, len: usize, n: usize) -> Result<(), ModelError>;

    /// Counts tokens that were computed. `end` is the findable prefix that the sequence is now, if it is one whose state
    /// is to be kept.
    fn advance(&mut self, seq: usize, len: usize, tokens: &[u32], end: Option<Prefix>);

    /// The longest prefix of at most `to` tokens that the state can go back to; `to` itself where it can be cut there.
    fn can_rewind(&self, seq: usize, len: usize, to: usize, paged: &Paged) -> usize;

    /// Goes back to `to` tokens, as `can_rewind` allowed. `prefix` is the findable prefix of that length.
    fn rewind(&mut self, seq: usize, len: usize, to: usize, prefix: Option<Prefix>);

    /// Makes an empty sequence begin with a findable prefix, which has state of this kind.
    fn share(&mut self, seq: usize, prefix: Prefix);
}

/// Names a sequence of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(pub(super) usize);

/// The answer to a request to go back to fewer tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a sequence that is shorter than was asked for lacks tokens"]
pub enum Rewind {
    /// The sequence holds the tokens that were asked for.
    Done,
    /// The state holds only so many tokens, and the sequence has them now: append the others again.
    RecomputeFrom(usize),
}

/// A sequence that was put aside: its tokens, for [`Session::go_on`](super::Session::go_on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    tokens: Vec<u32>,
}

impl Aside {
    /// All tokens of the sequence.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// An open sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    /// Tokens and embedding rows.
    len: usize,
    /// Where the first embedding row is, if there is one.
    first_embedding: Option<usize>,
}

/// The sequences of a session, and the blocks and slots of their states.
#[derive(Clone, Debug)]
pub struct States {
    layout: CacheLayout,
    n_ctx_train: usize,
    sequences: Vec<Option<Sequence>>,
    paged: Paged,
    recurrent: Option<Recurrent>,
}

impl States {
    /// No open sequence, and all blocks free. `n_ctx_train` is only for messages. It takes
    /// [`CacheLayout::table_bytes`] bytes.
    pub fn new(layout: CacheLayout, n_ctx_train: usize) -> States {
        let sequences = vec![None; layout.n_sequences];
        States { layout, n_ctx_train, sequences, paged: Paged::new(layout), recurrent: None }
    }

    /// Keeps slots of recurrent state from now on: the model has some. No sequence may be open.
    pub(super) fn with_recurrent(&mut self) {
        self.recurrent.get_or_insert_with(|| Recurrent::new(self.layout));
    }

    /// Whether the model has recurrent state, which cannot be cut back everywhere.
    pub fn has_recurrent(&self) -> bool {
        self.recurrent.is_some()
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// [`ModelError::NoFreeSequence`] if as many are open as the session was made for.
    pub fn open(&mut self) -> Result<SequenceId, ModelError> {
        let n_sequences = self.sequences.len();
        let full = || ModelError::NoFreeSequence { n_sequences };
        let id = self.sequences.iter().position(Option::is_none).ok_or_else(full)?;
        self.sequences[id] = Some(Sequence::default());
        Ok(SequenceId(id))
    }

    fn sequence(&self, id: SequenceId) -> Result<Sequence, ModelError> {
        let closed = || ModelError::ClosedSequence { sequence: id.0 };
        self.sequences.get(id.0).copied().flatten().ok_or_else(closed)
    }

    /// Tokens (and embedding rows) in a sequence.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn len(&self, id: SequenceId) -> Result<usize, ModelError> {
        Ok(self.sequence(id)?.len)
    }

    /// Whether no sequence holds a token.
    pub fn is_empty(&self) -> bool {
        self.sequences.iter().flatten().all(|sequence| sequence.len == 0)
    }

    /// The sequences that are open.
    pub fn open_sequences(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.sequences
            .iter()
            .enumerate()
            .filter(|(_, sequence)| sequence.is_some())
            .map(|(i, _)| SequenceId(i))
    }

    /// Tokens that there is room for in all, over and above what open sequences hold.
    pub fn free_tokens(&self) -> usize {
        self.paged.blocks.n_idle() * BLOCK_SIZE
    }

    fn kinds(&mut self) -> impl Iterator<Item = &mut dyn StateKind> {
        let recurrent = self.recurrent.as_mut().map(|kind| kind as &mut dyn StateKind);
        std::iter::once(&mut self.paged as &mut dyn StateKind).chain(recurrent)
    }

    /// Makes room for `n` more tokens of a sequence, without counting them yet.
    ///
    /// # Errors
    /// [`ModelError::ContextFull`] if the sequence may not hold so many, [`ModelError::CacheFull`] if the others hold
    /// the room. Nothing has changed then.
    pub(super) fn reserve(&mut self, id: SequenceId, n: usize) -> Result<(), ModelError> {
        let len = self.len(id)?;
        let (wanted, n_ctx) = (len.saturating_add(n), self.n_ctx());
        if wanted > n_ctx {
            return Err(ModelError::ContextFull { wanted, n_ctx, n_ctx_train: self.n_ctx_train });
        }
        self.kinds().try_for_each(|kind| kind.reserve(id.0, len, n))
    }

    /// Gives back what was reserved for a step that did not run, or failed. A sequence whose recurrent state may have
    /// been written over is empty afterwards.
    pub(super) fn abandon(&mut self, id: SequenceId, ran: bool) {
        let Ok(len) = self.len(id) else { return };
        let lost = self.recurrent.as_mut().is_some_and(|recurrent| recurrent.abandon(id.0));
        let to = if lost && ran { 0 } else { len };
        self.cut(id, to);
    }

    /// Counts tokens that were computed, [`NO_TOKEN`] for an embedding row. Blocks that are full now can be found.
    pub(super) fn advance(&mut self, id: SequenceId, tokens: &[u32]) {
        let Ok(mut sequence) = self.sequence(id) else { return };
        let len = sequence.len;
        self.paged.advance(id.0, len, tokens, None);
        let end = len + tokens.len();
        // Single tokens of an answer would push the prompts' snapshots out. The room of a prompt is reserved whole, so
        // before its last token there is room for more.
        let of_prompt = tokens.len() > 1 || self.paged.slot(id.0, end) >= 0;
        let prefix = self.paged.prefix(id.0, end).filter(|_| of_prompt);
        if let Some(recurrent) = &mut self.recurrent {
            if prefix.is_some() {
                recurrent.drop_void(&self.paged.blocks);
            }
            recurrent.advance(id.0, len, tokens, prefix);
        }
        if sequence.first_embedding.is_none() {
            sequence.first_embedding = tokens.iter().position(|&token| token == NO_TOKEN).map(|at| len + at);
        }
        sequence.len += tokens.len();
        self.sequences[id.0] = Some(sequence);
    }

    /// Keeps the state as it is now, so that the sequence can be rewound to here until the next mark: call it before
    /// tokens that are guesses. Paged state needs no mark.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn mark(&mut self, id: SequenceId) -> Result<(), ModelError> {
        let len = self.len(id)?;
        if let Some(recurrent) = &mut self.recurrent {
            recurrent.mark(id.0, len);
        }
        Ok(())
    }

    /// How far back all kinds of state can go together: at most to `to` tokens.
    fn can_rewind(&self, id: SequenceId, len: usize, to: usize) -> usize {
        let mut to = to.min(len);
        loop {
            let paged = self.paged.can_rewind(id.0, len, to, &self.paged);
            let all =
                self.recurrent.as_ref().map_or(paged, |kind| kind.can_rewind(id.0, len, paged, &self.paged));
            if all == to {
                return to;
            }
            to = all;
        }
    }

    /// Forgets all tokens of a sequence from `to` on, and releases the blocks that are empty then. They can be found
    /// until their memory is needed.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub fn rewind(&mut self, id: SequenceId, to: usize) -> Result<Rewind, ModelError> {
        let len = self.len(id)?;
        let to = to.min(len);
        let held = self.can_rewind(id, len, to);
        self.cut(id, held);
        Ok(if held == to { Rewind::Done } else { Rewind::RecomputeFrom(held) })
    }

    /// Cuts a sequence to a length that `can_rewind` allowed.
    fn cut(&mut self, id: SequenceId, to: usize) {
        let Ok(mut sequence) = self.sequence(id) else { return };
        let prefix = self.paged.prefix(id.0, to);
        let len = sequence.len;
        // Recurrent state is found by the prefix's name, so it goes first.
        if let Some(recurrent) = &mut self.recurrent {
            recurrent.rewind(id.0, len, to, prefix);
        }
        self.paged.rewind(id.0, len, to, prefix);
        sequence.len = to;
        sequence.first_embedding = sequence.first_embedding.filter(|&at| at < to);
        self.sequences[id.0] = Some(sequence);
    }

    /// The tokens of a sequence.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`], [`ModelError::EmbeddingRow`].
    pub fn tokens(&self, id: SequenceId) -> Result<impl ExactSizeIterator<Item = u32> + use<'_>, ModelError> {
        let sequence = self.sequence(id)?;
        if let Some(row) = sequence.first_embedding {
            return Err(ModelError::EmbeddingRow { sequence: id.0, row });
        }
        Ok((0..sequence.len).map(move |position| self.paged.token(id.0, position)))
    }

    /// How many of these tokens a sequence begins with.
    fn common(&self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let held = (0..self.len(id)?).map(|position| self.paged.token(id.0, position));
        // An embedding row equals no token, not even one of the same number.
        Ok(held.zip(tokens).take_while(|(held, token)| held == *token && *held != NO_TOKEN).count())
    }

    /// The longest findable prefix of these tokens that has state of every kind, and its length.
    fn find(&self, tokens: &[u32]) -> Option<(Prefix, usize)> {
        let (mut block, mut n) = self.paged.blocks.find_all(tokens);
        while let Some(prefix) = self.paged.blocks.prefix(block) {
            if self.recurrent.as_ref().is_none_or(|recurrent| recurrent.has(prefix)) {
                return Some((prefix, n * BLOCK_SIZE));
            }
            (block, n) = (self.paged.blocks.parent(block), n - 1);
        }
        None
    }

    /// Makes a sequence hold as many of these tokens as it or any block holds, and gives their number.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if the sequence is not open.
    pub(super) fn reuse(&mut self, id: SequenceId, tokens: &[u32]) -> Result<usize, ModelError> {
        let len = self.len(id)?;
        let own = self.can_rewind(id, len, self.common(id, tokens)?);
        if self.find(tokens).is_none_or(|(_, n)| n <= own) {
            self.cut(id, own);
            return Ok(own);
        }
        self.cut(id, 0);
        // Cutting may have made more of the tokens findable.
        let Some((prefix, n)) = self.find(tokens) else { return Ok(0) };
        self.kinds().for_each(|kind| kind.share(id.0, prefix));
        self.sequences[id.0] = Some(Sequence { len: n, first_embedding: None });
        Ok(n)
    }

    /// Closes a sequence and releases its blocks.
    ///
    /// # Errors
    /// [`ModelError::ClosedSequence`] if it is not open.
    pub fn close(&mut self, id: SequenceId) -> Result<(), ModelError> {
        self.sequence(id)?;
        self.cut(id, 0);
        self.sequences[id.0] = None;
        Ok(())
    }

    /// Closes a sequence that will go on later; its blocks can be found until their memory is needed.
    ///
    /// # Errors
    /// As [`States::tokens`]: a sequence with embedding rows cannot be computed again.
    pub fn put_aside(&mut self, id: SequenceId) -> Result<Aside, ModelError> {
        let tokens = self.tokens(id)?.collect();
        self.close(id)?;
        Ok(Aside { tokens })
    }

    /// The slot of a token that there is room for; -1 where there is none.
    pub fn slot(&self, id: SequenceId, position: usize) -> i32 {
        self.paged.slot(id.0, position)
    }

    /// The slots of recurrent state that the step under way reads and writes; -1 for none.
    pub(super) fn source_and_target(&self, id: SequenceId) -> [i32; 2] {
        self.recurrent.as_ref().map_or([-1, -1], |recurrent| recurrent.source_and_target(id.0))
    }

    /// The block tables, as the graph's input wants them.
    pub fn tables(&self) -> &[i32] {
        &self.paged.tables
    }

    /// The sizes.
    pub fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// Tokens that a sequence may hold: its context, or as many as there is memory for in all.
    pub fn n_ctx(&self) -> usize {
        self.layout.n_ctx.min(self.layout.blocks_per_sequence * BLOCK_SIZE)
    }
}

/// The token that stands for an embedding row.
pub(super) const EMBEDDING_ROW: u32 = NO_TOKEN;
