//! The models of a server: one that is kept, or those of a [`Library`], which are loaded for the first request that names
//! them and end when they are unused (`loading`).
//!
//! `shelf` is the state, `loaded` a model that answers, `view` the lists for clients. This folder knows engines and no
//! interface.

mod keep_alive;
mod library;
mod loaded;
mod loading;
mod shelf;
#[cfg(feature = "demo")]
#[cfg(test)]
mod shelf_tests;
mod view;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::apart::apart;
use super::error::{ApiError, Kind};
use super::metrics::Metrics;
use crate::engine::Stats;
pub use keep_alive::{InvalidKeepAlive, KeepAlive};
pub use library::{Description, Library, LibraryError, ListedModel, PullProgress};
pub(super) use loaded::Source;
pub use loaded::{Loaded, ModelNames};
use shelf::{Outcome, Shelf, Stage};
pub(super) use view::{Shown, Status};

/// The models of a server.
pub(super) struct Models {
    state: Mutex<State>,
    /// Set once.
    library: OnceLock<Arc<dyn Library>>,
    /// Sent when a model is loaded, ends, or is no longer used.
    changes: watch::Sender<()>,
    /// One model is loaded at a time, in the order of the requests.
    turns: Semaphore,
    /// The most models that are loaded; 0: any number.
    most: usize,
    keep: KeepAlive,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    shelf: Shelf,
    /// The reason why the only model could not be loaded.
    failed: Option<String>,
    /// The reasons why models could not be loaded last time, by id.
    failures: HashMap<String, String>,
    /// The counts of engines that ended, by id.
    ended: HashMap<String, Stats>,
}

/// A request's use of a model, or its wait for one.
struct Use {
    models: Arc<Models>,
    number: u64,
}

impl Drop for Use {
    fn drop(&mut self) {
        self.models.state().shelf.release(self.number, Instant::now());
        self.models.changed();
    }
}

/// A model in use: it stays loaded as long as this lives.
pub(super) struct Held {
    loaded: Arc<Loaded>,
    /// After the model, which is no longer referred to when the use ends.
    _use: Use,
}

impl Deref for Held {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

/// A request's place at a model.
enum Claim {
    Ready(Held),
    Loads(Use, watch::Receiver<Outcome>),
    /// Its memory is not free yet.
    Ends,
}

impl Models {
    pub fn new(most: usize, keep: KeepAlive, metrics: Arc<Metrics>) -> Models {
        Models {
            state: Mutex::default(),
            library: OnceLock::new(),
            changes: watch::Sender::new(()),
            turns: Semaphore::new(1),
            most,
            keep,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_replace(());
    }

    /// Sets a model that is kept, or the reason why there is none.
    pub fn set(&self, loaded: Result<Loaded, String>) {
        let mut state = self.state();
        match loaded {
            Ok(loaded) => {
                let (id, stage) = (loaded.names.id.clone(), Stage::Ready(Arc::new(loaded)));
                let number = state.shelf.add(&id, stage, KeepAlive::Forever, Instant::now());
                if let Some(slot) = state.shelf.numbered(number) {
                    slot.is_pinned = true;
                }
            }
            Err(reason) => state.failed = Some(reason),
        }
    }

    /// Sets the library. A second one is ignored.
    pub fn set_library(&self, library: Arc<dyn Library>) {
        let _ = self.library.set(library);
    }

    pub fn library(&self) -> Option<&Arc<dyn Library>> {
        self.library.get()
    }

    /// The most models that are loaded; 0: any number.
    pub fn most(&self) -> usize {
        self.most
    }

    /// An error if the server has no models yet.
    pub fn check_ready(&self) -> Result<(), ApiError> {
        let state = self.state();
        match &state.failed {
            Some(reason) => {
                Err(ApiError::new(Kind::Unavailable, format!("the model could not be loaded: {reason}")))
            }
            None if self.library().is_some() || !state.shelf.slots().is_empty() => Ok(()),
            None => Err(ApiError::new(Kind::Unavailable, "Loading model")),
        }
    }

    /// The model of this name, loaded. A request without a name takes the only one that there is; an unknown name is an
    /// error, never another model's answer.
    pub async fn find(self: &Arc<Self>, name: Option<&str>) -> Result<Arc<Held>, ApiError> {
        self.find_to_keep(name, None).await
    }

    /// [`Models::find`], which also sets how long the model is kept.
    pub async fn find_to_keep(
        self: &Arc<Self>,
        name: Option<&str>,
        keep: Option<KeepAlive>,
    ) -> Result<Arc<Held>, ApiError> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let id = self.id_of(name).await?;
            match self.claim(&id, keep) {
                Claim::Ready(held) => return Ok(Arc::new(held)),
                Claim::Loads(waits, outcome) => return when_loaded(waits, outcome).await.map(Arc::new),
                Claim::Ends => _ = changes.changed().await,
            }
        }
    }

    /// The id of the model with this name, which need not be loaded.
    pub async fn id_of(self: &Arc<Self>, name: Option<&str>) -> Result<String, ApiError> {
        self.check_ready()?;
        let Some(name) = name.filter(|name| !name.is_empty()) else { return self.only().await };
        let known = self.state().shelf.named(name).map(|slot| slot.id.clone());
        match (known, self.library()) {
            (Some(id), _) => Ok(id),
            (None, Some(library)) => {
                let (library, wanted) = (Arc::clone(library), name.to_string());
                let found = apart(move || Ok(library.find(&wanted)));
                found.await?.map_err(|error| of_library(name, error))
            }
            (None, None) => Err(of_library(name, LibraryError::Unknown)),
        }
    }

    /// The id of the only model.
    async fn only(self: &Arc<Self>) -> Result<String, ApiError> {
        let mut ids = self.list().await?.into_iter().map(|shown| shown.listed.names.id);
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(ApiError::new(Kind::NotFound, "this server has no models")),
            _ => Err(ApiError::invalid(
                "model",
                "model is missing: this server has several models, which GET /v1/models lists",
            )),
        }
    }

    /// A use of a model, which is loaded if it is not.
    fn claim(self: &Arc<Self>, id: &str, keep: Option<KeepAlive>) -> Claim {
        let mut state = self.state();
        let slot = match state.shelf.named(id) {
            Some(slot) => slot,
            None => {
                let (sender, outcome) = watch::channel(Outcome::Pending);
                let (stage, keep) = (Stage::Loading(outcome.clone()), keep.unwrap_or(self.keep));
                let number = state.shelf.add(id, stage, keep, Instant::now());
                if let Some(slot) = state.shelf.numbered(number) {
                    slot.uses = 1;
                }
                tokio::spawn(Arc::clone(self).load(id.to_string(), number, sender));
                return Claim::Loads(Use { models: Arc::clone(self), number }, outcome);
            }
        };
        let claim = match &slot.stage {
            Stage::Ending => return Claim::Ends,
            Stage::Ready(loaded) => {
                let _use = Use { models: Arc::clone(self), number: slot.number };
                Claim::Ready(Held { loaded: Arc::clone(loaded), _use })
            }
            Stage::Loading(outcome) => {
                Claim::Loads(Use { models: Arc::clone(self), number: slot.number }, outcome.clone())
            }
        };
        slot.uses += 1;
        if let Some(keep) = keep.filter(|_| !slot.is_pinned) {
            slot.keep = keep;
        }
        claim
    }

    /// Ends a model when it is not used any more. Waits for that if it is not used now. Returns false for a pinned one, which
    /// stays.
    pub async fn unload(self: &Arc<Self>, id: &str) -> bool {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let mut state = self.state();
                let Some(slot) = state.shelf.named(id) else { return true };
                if slot.is_pinned {
                    return false;
                }
                slot.keep = KeepAlive::For(Duration::ZERO);
                if slot.uses > 0 {
                    return true;
                }
            }
            self.changed();
            let _ = changes.changed().await;
        }
    }
}

/// Waits for the end of a load.
async fn when_loaded(waits: Use, mut outcome: watch::Receiver<Outcome>) -> Result<Held, ApiError> {
    let ended = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Pending)).await;
    match ended.as_deref() {
        Ok(Outcome::Ready(loaded)) => Ok(Held { loaded: Arc::clone(loaded), _use: waits }),
        Ok(Outcome::Failed(error)) => Err(error.clone()),
        _ => Err(ApiError::new(Kind::Unavailable, "the server stops")),
    }
}

/// The error of a request that names a model.
pub(super) fn of_library(name: &str, error: LibraryError) -> ApiError {
    let name = name.escape_debug();
    let kind = match &error {
        LibraryError::Unknown => {
            let message = format!("there is no model `{name}`; GET /v1/models lists those that are there");
            return ApiError { param: Some("model".into()), ..ApiError::new(Kind::UnknownModel, message) };
        }
        LibraryError::Invalid(_) => Kind::Invalid,
        LibraryError::Unsupported => Kind::NotSupported,
        LibraryError::Memory(_) | LibraryError::Failed(_) => Kind::Failed,
    };
    ApiError { param: Some("model".into()), ..ApiError::new(kind, error.to_string()) }
}
