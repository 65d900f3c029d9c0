//! Loading a model for the requests that wait for it, and ending models that are unused.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::library::{Library, LibraryError};
use super::shelf::{Outcome, Stage};
use super::{Loaded, Models, of_library};
use crate::engine::{OnStep, Stats};
use crate::serve::error::{ApiError, Kind};

impl Models {
    /// Loads a model when its turn comes, and tells those who wait for it.
    pub(super) async fn load(self: Arc<Self>, id: String, number: u64, outcome: watch::Sender<Outcome>) {
        let ended = loop {
            let result = self.load_in_turn(&id, number).await;
            let mut state = self.state();
            match result {
                // Somebody came while the load was given up.
                Err(None) if state.shelf.numbered(number).is_some_and(|slot| slot.uses > 0) => {}
                Ok(loaded) => {
                    let loaded = Arc::new(loaded);
                    if let Some(slot) = state.shelf.numbered(number) {
                        slot.stage = Stage::Ready(Arc::clone(&loaded));
                        slot.unused_since = Instant::now();
                    }
                    state.failures.remove(&id);
                    break Outcome::Ready(loaded);
                }
                Err(error) => {
                    state.shelf.remove(number);
                    if let Some(error) = &error {
                        tracing::error!("`{}` could not be loaded: {}", id.escape_debug(), error.message);
                        state.failures.insert(id, error.message.clone());
                    }
                    let nobody = || ApiError::new(Kind::Unavailable, "the model was not loaded");
                    break Outcome::Failed(error.unwrap_or_else(nobody));
                }
            }
        };
        outcome.send_replace(ended);
        self.changed();
    }

    /// `Err(None)`: nobody waits for it any more.
    async fn load_in_turn(self: &Arc<Self>, id: &str, number: u64) -> Result<Loaded, Option<ApiError>> {
        let _turn = self.turns.acquire().await.map_err(|_| None)?;
        let library = self.library().ok_or_else(|| Some(failed(id, LibraryError::Unknown)))?;
        while self.most > 0 && self.state().shelf.n_held() >= self.most {
            if !self.end_one(number).await? {
                break;
            }
        }
        loop {
            self.check_wanted(number)?;
            let begun = Instant::now();
            match self.try_to_load(library, id).await {
                Ok(loaded) => {
                    let time = begun.elapsed().as_secs_f64();
                    tracing::info!("loaded `{}` in {time:.2} s", id.escape_debug());
                    return Ok(loaded);
                }
                Err(LibraryError::Memory(reason)) if self.state().shelf.n_held() > 0 => {
                    tracing::info!("`{}` does not fit beside the others: {reason}", id.escape_debug());
                    if !self.end_one(number).await? {
                        return Err(Some(failed(id, LibraryError::Memory(reason))));
                    }
                }
                Err(error) => return Err(Some(failed(id, error))),
            }
        }
    }

    async fn try_to_load(
        self: &Arc<Self>,
        library: &Arc<dyn Library>,
        id: &str,
    ) -> Result<Loaded, LibraryError> {
        let (library, wanted, on_step) = (Arc::clone(library), id.to_string(), self.on_step(id));
        let loaded = spawn_blocking(move || library.load(&wanted, on_step)).await;
        loaded.unwrap_or_else(|_| Err(LibraryError::Failed("loading it panicked".to_string())))
    }

    /// Receives each step of a model's engine.
    pub fn on_step(&self, id: &str) -> OnStep {
        let (metrics, id) = (Arc::clone(&self.metrics), id.to_string());
        Arc::new(move |report| metrics.step(&id, report))
    }

    /// An error if nobody waits for a model.
    fn check_wanted(&self, number: u64) -> Result<(), Option<ApiError>> {
        match self.state().shelf.numbered(number) {
            Some(slot) if slot.uses > 0 => Ok(()),
            _ => Err(None),
        }
    }

    /// Ends the model that has been unused for the longest time. If all are in use, waits until one is not. Returns false
    /// if there is none that could end.
    async fn end_one(self: &Arc<Self>, waiting: u64) -> Result<bool, Option<ApiError>> {
        let mut changes = self.changes.subscribe();
        let n_held = self.state().shelf.n_held();
        loop {
            changes.borrow_and_update();
            self.check_wanted(waiting)?;
            let (taken, n_left, can_end) = {
                let mut state = self.state();
                let taken = state.shelf.take_least_recent();
                (taken, state.shelf.n_held(), state.shelf.can_end())
            };
            match taken {
                Some((number, loaded)) => {
                    self.end(number, loaded).await;
                    return Ok(true);
                }
                // Another one has ended meanwhile.
                None if n_left < n_held => return Ok(true),
                None if can_end => _ = changes.changed().await,
                None => return Ok(false),
            }
        }
    }

    /// Ends a model that was taken out of the shelf, and waits until its memory is free.
    async fn end(self: &Arc<Self>, number: u64, loaded: Arc<Loaded>) {
        let ended = spawn_blocking(move || {
            loaded.engine.stop();
            loaded.engine.stats()
        });
        let ended = ended.await;
        let mut state = self.state();
        let id = state.shelf.numbered(number).map(|slot| slot.id.clone());
        state.shelf.remove(number);
        if let (Some(id), Ok(stats)) = (id, ended) {
            tracing::info!("unloaded `{}`", id.escape_debug());
            let sum = state.ended.entry(id).or_default();
            let sizes = Stats { running: 0, waiting: 0, free_tokens: 0, total_tokens: 0, ..stats };
            *sum = added(*sum, sizes);
        }
        drop(state);
        self.changed();
    }

    /// Ends models whose time is over, for as long as the server runs.
    pub async fn end_expired(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let (expired, next) = {
                let mut state = self.state();
                (state.shelf.take_expired(Instant::now()), state.shelf.next_expiry())
            };
            if let Some((number, loaded)) = expired {
                self.end(number, loaded).await;
                continue;
            }
            let over = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Stops all engines. Not on a thread that answers requests.
    pub fn stop(&self) {
        let loaded: Vec<Arc<Loaded>> = {
            let state = self.state();
            state.shelf.slots().iter().filter_map(|slot| slot.loaded().map(Arc::clone)).collect()
        };
        loaded.iter().for_each(|loaded| loaded.engine.stop());
    }

    /// The counts of all engines by id, those of engines that ended among them; the flag says that the model is loaded.
    pub fn stats(&self) -> Vec<(String, Stats, bool)> {
        let state = self.state();
        let mut all: Vec<_> = state.ended.iter().map(|(id, stats)| (id.clone(), *stats, false)).collect();
        for slot in state.shelf.slots() {
            let Some(loaded) = slot.loaded() else { continue };
            let stats = loaded.engine.stats();
            match all.iter_mut().find(|(id, ..)| *id == slot.id) {
                Some(sum) => *sum = (slot.id.clone(), added(sum.1, stats), true),
                None => all.push((slot.id.clone(), stats, true)),
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

fn failed(id: &str, error: LibraryError) -> ApiError {
    let reason = of_library(id, error);
    ApiError {
        message: format!("the model `{}` could not be loaded: {}", id.escape_debug(), reason.message),
        ..reason
    }
}

/// The counts of an ended engine and of a later one, with the later one's present sizes.
fn added(ended: Stats, later: Stats) -> Stats {
    Stats {
        finished: ended.finished + later.finished,
        failed: ended.failed + later.failed,
        cancelled_waiting: ended.cancelled_waiting + later.cancelled_waiting,
        cancelled_prompt: ended.cancelled_prompt + later.cancelled_prompt,
        cancelled_answer: ended.cancelled_answer + later.cancelled_answer,
        put_aside: ended.put_aside + later.put_aside,
        steps: ended.steps + later.steps,
        prompt_tokens: ended.prompt_tokens + later.prompt_tokens,
        cached_tokens: ended.cached_tokens + later.cached_tokens,
        generated_tokens: ended.generated_tokens + later.generated_tokens,
        ..later
    }
}
