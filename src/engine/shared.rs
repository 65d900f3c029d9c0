//! The parts of an engine that its thread and its handles share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::job::Job;
use super::options::{Running, Stats};
use super::reply::EngineError;

/// A command to the engine's thread.
pub(super) enum Command {
    Submit(Box<Job>),
    Stop,
}

#[derive(Default)]
pub(super) struct Shared {
    /// Requests that were submitted and not yet admitted.
    waiting: AtomicUsize,
    stats: Mutex<Stats>,
    running: Mutex<Vec<Running>>,
    stopped: Mutex<Option<String>>,
}

/// The data of a lock, also after a panic: they are plain numbers and texts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Counts a request that enters the queue.
    pub fn enter_queue(&self, most: usize) -> Result<(), EngineError> {
        let enter = |waiting| (waiting < most).then_some(waiting + 1);
        let full = |waiting| EngineError::Busy { waiting, most };
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).map(drop).map_err(full)
    }

    pub fn left_queue(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn set_stats(&self, stats: Stats) {
        *lock(&self.stats) = stats;
    }

    pub fn stats(&self) -> Stats {
        *lock(&self.stats)
    }

    /// Replaces the list of running requests, in the memory of the last one.
    pub fn set_running(&self, requests: impl Iterator<Item = Running>) {
        let mut running = lock(&self.running);
        running.clear();
        running.extend(requests);
    }

    pub fn running(&self) -> Vec<Running> {
        lock(&self.running).clone()
    }

    pub fn stop(&self, reason: &str) {
        lock(&self.stopped).get_or_insert_with(|| reason.to_string());
    }

    /// The error of an engine that has stopped.
    pub fn stopped(&self) -> Option<EngineError> {
        lock(&self.stopped).clone().map(|reason| EngineError::Stopped { reason })
    }
}
