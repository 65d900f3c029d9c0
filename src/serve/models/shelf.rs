//! Loaded models: their users, idle times and eviction order.
//!
//! It is data: it knows no clock and waits for nothing.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::{KeepAlive, Loaded};
use crate::serve::error::ApiError;

/// The end of a load.
#[derive(Clone)]
pub(super) enum Outcome {
    Pending,
    Ready(Arc<Loaded>),
    Failed(ApiError),
}

/// The state of a model.
#[derive(Clone)]
pub(super) enum Stage {
    Loading(watch::Receiver<Outcome>),
    Ready(Arc<Loaded>),
    /// Its memory is not free yet.
    Ending,
}

/// A model from the first request for it to its end.
#[derive(Clone)]
pub(super) struct Slot {
    /// No other slot has or had it.
    pub number: u64,
    pub id: String,
    pub stage: Stage,
    /// Requests that use it or wait for it.
    pub uses: usize,
    /// The end of the last use.
    pub unused_since: Instant,
    pub keep: KeepAlive,
    /// Never ended.
    pub is_pinned: bool,
}

impl Slot {
    /// The time at which it ends unless it is used; `None`: none, or it is used.
    pub fn expires(&self) -> Option<Instant> {
        match (self.keep, &self.stage) {
            (KeepAlive::For(time), Stage::Ready(_)) if self.is_idle() => self.unused_since.checked_add(time),
            _ => None,
        }
    }

    pub fn loaded(&self) -> Option<&Arc<Loaded>> {
        match &self.stage {
            Stage::Ready(loaded) => Some(loaded),
            _ => None,
        }
    }

    fn is_idle(&self) -> bool {
        self.uses == 0 && !self.is_pinned
    }

    /// True for a name of a pinned model. The names of others are the library's business.
    fn is_called(&self, name: &str) -> bool {
        self.is_pinned && self.loaded().is_some_and(|loaded| loaded.names.has(name))
    }
}

#[derive(Default)]
pub(super) struct Shelf {
    slots: Vec<Slot>,
    n_slots: u64,
}

impl Shelf {
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot with this id, or the pinned one with this name.
    pub fn named(&mut self, name: &str) -> Option<&mut Slot> {
        let at = self.slots.iter().position(|slot| slot.id == name);
        let at = at.or_else(|| self.slots.iter().position(|slot| slot.is_called(name)))?;
        self.slots.get_mut(at)
    }

    pub fn numbered(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }

    /// Adds a slot, and returns its number.
    pub fn add(&mut self, id: &str, stage: Stage, keep: KeepAlive, now: Instant) -> u64 {
        let number = self.n_slots;
        self.n_slots += 1;
        let id = id.to_string();
        self.slots.push(Slot { number, id, stage, uses: 0, unused_since: now, keep, is_pinned: false });
        number
    }

    pub fn remove(&mut self, number: u64) {
        self.slots.retain(|slot| slot.number != number);
    }

    /// Ends a use.
    pub fn release(&mut self, number: u64, now: Instant) {
        if let Some(slot) = self.numbered(number) {
            slot.uses = slot.uses.saturating_sub(1);
            slot.unused_since = now;
        }
    }

    /// The models whose memory is in use, without those that load.
    pub fn n_held(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot.stage, Stage::Loading(_))).count()
    }

    /// True if a model may end, now or when it is no longer used.
    pub fn can_end(&self) -> bool {
        self.slots.iter().any(|slot| !slot.is_pinned && !matches!(slot.stage, Stage::Loading(_)))
    }

    /// Takes out the model that has been unused for the longest time, to end it.
    pub fn take_least_recent(&mut self) -> Option<(u64, Arc<Loaded>)> {
        let idle = self.slots.iter().filter(|slot| slot.is_idle() && slot.loaded().is_some());
        let number = idle.min_by_key(|slot| slot.unused_since)?.number;
        self.take(number)
    }

    /// Takes out a model whose time is over, to end it.
    pub fn take_expired(&mut self, now: Instant) -> Option<(u64, Arc<Loaded>)> {
        let number = self.slots.iter().find(|slot| slot.expires().is_some_and(|at| at <= now))?.number;
        self.take(number)
    }

    /// The time at which the next model ends.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.slots.iter().filter_map(Slot::expires).min()
    }

    fn take(&mut self, number: u64) -> Option<(u64, Arc<Loaded>)> {
        let slot = self.numbered(number)?;
        match std::mem::replace(&mut slot.stage, Stage::Ending) {
            Stage::Ready(loaded) => Some((number, loaded)),
            other => {
                slot.stage = other;
                None
            }
        }
    }
}
