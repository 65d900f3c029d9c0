//! The last tokens, as the penalties look at them.

use std::collections::HashMap;

/// The last tokens, and how often each is among them.
pub(super) struct History {
    ring: Ring,
    counts: HashMap<u32, u32>,
}

impl History {
    /// An empty window of so many tokens.
    pub(super) fn new(length: usize) -> History {
        // One more than the window: a token enters before the oldest leaves. Twice that, since a map
        // that loses and gains keys may otherwise grow to clean up.
        let counts = if length == 0 { HashMap::new() } else { HashMap::with_capacity(2 * (length + 1)) };
        History { ring: Ring::new(length), counts }
    }

    /// How often a token is in the window.
    pub(super) fn count(&self, token: u32) -> u32 {
        self.counts.get(&token).copied().unwrap_or(0)
    }

    /// The tokens of the window, each once, with how often it is there.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u32, u32)> {
        self.counts.iter().map(|(&token, &count)| (token, count))
    }

    pub(super) fn push(&mut self, token: u32) {
        if self.ring.length == 0 {
            return;
        }
        *self.counts.entry(token).or_insert(0) += 1;
        if let Some(oldest) = self.ring.push(token)
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.counts.clear();
    }
}

/// The last tokens in their order.
pub(super) struct Ring {
    tokens: Vec<u32>,
    /// The oldest, once it is full.
    next: usize,
    length: usize,
}

impl Ring {
    pub(super) fn new(length: usize) -> Ring {
        Ring { tokens: Vec::with_capacity(length), next: 0, length }
    }

    /// Adds a token and gives the one that leaves for it.
    pub(super) fn push(&mut self, token: u32) -> Option<u32> {
        if self.tokens.len() < self.length {
            self.tokens.push(token);
            return None;
        }
        let oldest = std::mem::replace(self.tokens.get_mut(self.next)?, token);
        self.next = (self.next + 1) % self.length;
        Some(oldest)
    }

    /// The tokens, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = u32> {
        let (newer, older) = self.tokens.split_at(self.next);
        newer.iter().rev().chain(older.iter().rev()).copied()
    }

    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.next = 0;
    }
}
