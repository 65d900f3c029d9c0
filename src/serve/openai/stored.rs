//! Responses that clients may come back to, in memory: those of each key within bounds of their own, the least recently used
//! ones leave first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::text::Message;

/// The most responses of a key, and the most bytes of them.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 << 20;

/// A response with the conversation that led to it.
#[derive(Debug)]
pub(in crate::serve) struct Kept {
    pub id: String,
    pub response: Value,
    /// The conversation with the answer, without instructions.
    pub messages: Vec<Message>,
}

impl Kept {
    /// About the bytes that it takes.
    fn bytes(&self) -> usize {
        let message = |message: &Message| serde_json::to_string(message).map_or(0, |text| text.len());
        self.response.to_string().len() + self.messages.iter().map(message).sum::<usize>()
    }
}

/// The responses of all keys.
#[derive(Debug, Default)]
pub(in crate::serve) struct Responses {
    /// By the number of the key.
    shelves: Mutex<HashMap<Option<usize>, Shelf>>,
}

/// The responses of a key with their bytes, the last used first.
#[derive(Debug, Default)]
struct Shelf {
    kept: VecDeque<(Arc<Kept>, usize)>,
    bytes: usize,
}

impl Shelf {
    fn remove(&mut self, id: &str) -> Option<(Arc<Kept>, usize)> {
        let at = self.kept.iter().position(|(kept, _)| kept.id == id)?;
        let removed = self.kept.remove(at)?;
        self.bytes -= removed.1;
        Some(removed)
    }

    fn push(&mut self, kept: Arc<Kept>, bytes: usize) {
        self.kept.push_front((kept, bytes));
        self.bytes += bytes;
        while self.kept.len() > MOST || self.bytes > MOST_BYTES {
            let Some((_, bytes)) = self.kept.pop_back() else { break };
            self.bytes -= bytes;
        }
    }
}

impl Responses {
    fn with<T>(&self, key: Option<usize>, work: impl FnOnce(&mut Shelf) -> T) -> T {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        work(shelves.entry(key).or_default())
    }

    pub fn keep(&self, key: Option<usize>, kept: Kept) {
        let bytes = kept.bytes();
        self.with(key, |shelf| shelf.push(Arc::new(kept), bytes));
    }

    /// A response of this key, which was used now.
    pub fn get(&self, key: Option<usize>, id: &str) -> Option<Arc<Kept>> {
        self.with(key, |shelf| {
            let (kept, bytes) = shelf.remove(id)?;
            shelf.push(Arc::clone(&kept), bytes);
            Some(kept)
        })
    }

    /// Forgets a response of this key. Returns false if there is none.
    pub fn forget(&self, key: Option<usize>, id: &str) -> bool {
        self.with(key, |shelf| shelf.remove(id)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: usize, bytes: usize) -> Kept {
        let messages = vec![Message::new("user", "x".repeat(bytes))];
        Kept { id: id.to_string(), response: Value::Null, messages }
    }

    #[test]
    fn the_least_recently_used_leave_first() {
        let all = Responses::default();
        (0..MOST).for_each(|id| all.keep(None, kept(id, 1)));
        assert!(all.get(None, "0").is_some());
        all.keep(None, kept(MOST, 1));
        assert!(all.get(None, "1").is_none(), "the oldest unused one");
        assert!(all.get(None, "0").is_some() && all.get(None, &MOST.to_string()).is_some());
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let all = Responses::default();
        for id in 0..40 {
            all.keep(None, kept(id, MOST_BYTES / 4));
            assert!(all.with(None, |shelf| shelf.bytes) <= MOST_BYTES);
        }
        assert_eq!(all.with(None, |shelf| shelf.kept.len()), 3);
        all.keep(None, kept(40, MOST_BYTES));
        assert!(all.get(None, "40").is_none(), "larger than all");
        for id in 0..=40 {
            all.forget(None, &id.to_string());
        }
        assert_eq!(all.with(None, |shelf| (shelf.bytes, shelf.kept.len())), (0, 0));
    }

    #[test]
    fn keys_see_and_displace_only_their_own() {
        let all = Responses::default();
        all.keep(Some(0), kept(7, 1));
        (0..2 * MOST).for_each(|id| all.keep(Some(1), kept(1000 + id, 1)));
        assert!(all.get(Some(1), "7").is_none() && all.get(None, "7").is_none());
        assert!(!all.forget(Some(1), "7"));
        assert!(all.get(Some(0), "7").is_some());
    }
}
