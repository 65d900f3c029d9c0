//! The last tokens of a text, and values that follow it, so that the newest can be taken back.

/// The most accepted tokens that can be taken back: several times the guesses of a step.
pub(super) const MAX_REWIND: usize = 256;

/// The longest window that a stage can look at: longer than any text.
pub(super) const MAX_WINDOW: usize = 1 << 24;

/// A window of the last tokens in their order, and behind it those that come back into it when newer ones are taken
/// back.
#[derive(Clone)]
pub(super) struct Ring {
    /// Room for the window and [`MAX_REWIND`] more; empty for a window of none.
    tokens: Vec<u32>,
    /// Where the next token goes.
    next: usize,
    /// How many tokens there are, of the window and behind it.
    held: usize,
    /// The tokens of the window, at most.
    length: usize,
}

impl Ring {
    pub(super) fn new(length: usize) -> Ring {
        let room = if length == 0 { 0 } else { length + MAX_REWIND };
        Ring { tokens: vec![0; room], next: 0, held: 0, length }
    }

    /// The token that `n` others came after.
    fn before(&self, n: usize) -> Option<u32> {
        let room = self.tokens.len();
        (n < self.held).then(|| self.tokens[(self.next + room - 1 - n) % room])
    }

    /// Adds a token and gives the one that leaves the window for it.
    pub(super) fn push(&mut self, token: u32) -> Option<u32> {
        *self.tokens.get_mut(self.next)? = token;
        self.next = (self.next + 1) % self.tokens.len();
        self.held = (self.held + 1).min(self.tokens.len());
        self.before(self.length)
    }

    /// Takes back the newest token, and gives it and the one that comes back into the window for it.
    pub(super) fn pop(&mut self) -> Option<(u32, Option<u32>)> {
        let newest = self.before(0)?;
        self.next = (self.next + self.tokens.len() - 1) % self.tokens.len();
        self.held -= 1;
        Some((newest, self.before(self.length - 1)))
    }

    /// Takes back the last `n` tokens, at most [`MAX_REWIND`].
    pub(super) fn rewind(&mut self, n: usize) {
        (0..n).for_each(|_| _ = self.pop());
    }

    /// The tokens of the window, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u32> {
        let (newer, older) = self.tokens.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev()).copied().take(self.held.min(self.length))
    }

    pub(super) fn clear(&mut self) {
        self.next = 0;
        self.held = 0;
    }
}

/// A value as it was before each of the last [`MAX_REWIND`] tokens.
#[derive(Clone)]
pub(super) struct Past<T> {
    values: Vec<T>,
    /// Where the next value goes.
    next: usize,
    held: usize,
}

impl<T: Clone> Past<T> {
    /// No past yet. `like` has the size of the values to come, so that keeping them does not allocate.
    pub(super) fn new(like: &T) -> Past<T> {
        Past { values: vec![like.clone(); MAX_REWIND], next: 0, held: 0 }
    }

    /// How many tokens can be taken back.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Keeps the value as it is before another token.
    pub(super) fn push(&mut self, value: &T) {
        self.values[self.next].clone_from(value);
        self.next = (self.next + 1) % MAX_REWIND;
        self.held = (self.held + 1).min(MAX_REWIND);
    }

    /// Takes back `n` tokens, and gives the value as it was before the first of them; `None` if `n` is 0 or more than are
    /// kept.
    pub(super) fn rewind(&mut self, n: usize) -> Option<&T> {
        if n == 0 || n > self.held {
            return None;
        }
        self.next = (self.next + MAX_REWIND - n) % MAX_REWIND;
        self.held -= n;
        self.values.get(self.next)
    }

    pub(super) fn clear(&mut self) {
        self.held = 0;
    }
}
