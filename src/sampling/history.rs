//! The last tokens of a text, and values recorded along with it, both of which can be rewound.

/// The most accepted tokens that can be rewound: several times the guesses of a step.
pub(super) const MAX_REWIND: usize = 256;

/// The longest window of a stage: longer than any text.
pub(super) const MAX_WINDOW: usize = 1 << 24;

/// A window of the last tokens in order, and behind it the older tokens that re-enter the window on a rewind.
#[derive(Clone)]
pub(super) struct Ring {
    /// Room for the window and [`MAX_REWIND`] more tokens; empty for a window of length 0.
    tokens: Vec<u32>,
    /// Index of the next token.
    next: usize,
    /// Number of stored tokens, in the window and behind it.
    held: usize,
    /// Length of the window.
    length: usize,
}

impl Ring {
    pub(super) fn new(length: usize) -> Ring {
        let room = if length == 0 { 0 } else { length + MAX_REWIND };
        Ring { tokens: vec![0; room], next: 0, held: 0, length }
    }

    /// The token with `n` newer ones after it.
    fn before(&self, n: usize) -> Option<u32> {
        let room = self.tokens.len();
        (n < self.held).then(|| self.tokens[(self.next + room - 1 - n) % room])
    }

    /// Appends a token, and returns the one that leaves the window.
    pub(super) fn push(&mut self, token: u32) -> Option<u32> {
        *self.tokens.get_mut(self.next)? = token;
        self.next = (self.next + 1) % self.tokens.len();
        self.held = (self.held + 1).min(self.tokens.len());
        self.before(self.length)
    }

    /// Removes the newest token, and returns it with the one that re-enters the window.
    pub(super) fn pop(&mut self) -> Option<(u32, Option<u32>)> {
        let newest = self.before(0)?;
        self.next = (self.next + self.tokens.len() - 1) % self.tokens.len();
        self.held -= 1;
        Some((newest, self.before(self.length - 1)))
    }

    /// Removes the last `n` tokens, at most [`MAX_REWIND`].
    pub(super) fn rewind(&mut self, n: usize) {
        (0..n).for_each(|_| _ = self.pop());
    }

    /// The tokens of the window, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u32> {
        let (newer, older) = self.tokens.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev()).copied().take(self.held.min(self.length))
    }

    pub(super) fn clear(&mut self) {
        self.next = 0;
        self.held = 0;
    }
}

/// The value before each of the last [`MAX_REWIND`] tokens.
#[derive(Clone)]
pub(super) struct Past<T> {
    values: Vec<T>,
    /// Index of the next value.
    next: usize,
    held: usize,
}

impl<T: Clone> Past<T> {
    /// An empty history. `like` has the size of the later values, so that recording them does not allocate.
    pub(super) fn new(like: &T) -> Past<T> {
        Past { values: vec![like.clone(); MAX_REWIND], next: 0, held: 0 }
    }

    /// Number of tokens that can be rewound.
    pub(super) fn len(&self) -> usize {
        self.held
    }

    /// Records the value before a token is accepted.
    pub(super) fn push(&mut self, value: &T) {
        self.values[self.next].clone_from(value);
        self.next = (self.next + 1) % MAX_REWIND;
        self.held = (self.held + 1).min(MAX_REWIND);
    }

    /// Rewinds `n` tokens, and returns the value before the first of them; `None` if `n` is 0 or more than are
    /// recorded.
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
