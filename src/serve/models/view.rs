//! All models with their states, for the lists that clients ask for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::shelf::{Slot, Stage};
use super::{LibraryError, ListedModel, Loaded, Models, of_library};
use crate::serve::apart::apart;
use crate::serve::error::ApiError;

/// The state of a model.
#[derive(Clone)]
pub(in crate::serve) enum Status {
    Unloaded,
    Loading,
    Loaded(Arc<Loaded>),
    /// The last try to load it failed for this reason.
    Failed(String),
}

/// A model in a list.
#[derive(Clone)]
pub(in crate::serve) struct Shown {
    pub listed: ListedModel,
    pub status: Status,
    /// The time at which it ends unless it is used; `None`: it stays.
    pub expires: Option<SystemTime>,
}

impl Shown {
    pub fn loaded(&self) -> Option<&Arc<Loaded>> {
        match &self.status {
            Status::Loaded(loaded) => Some(loaded),
            _ => None,
        }
    }
}

impl Models {
    /// All models: the loaded ones, and those that could be loaded.
    pub async fn list(self: &Arc<Self>) -> Result<Vec<Shown>, ApiError> {
        self.check_ready()?;
        let listed = match self.library() {
            Some(library) => {
                let library = Arc::clone(library);
                apart(move || Ok(library.list())).await?
            }
            None => Vec::new(),
        };
        let state = self.state();
        let slots = state.shelf.slots();
        // A model whose file was deleted still answers.
        let known = |id: &str| listed.iter().any(|listed| listed.names.id == id);
        let own = slots.iter().filter(|slot| slot.is_pinned || !known(&slot.id));
        let mut all: Vec<Shown> = own
            .filter_map(|slot| {
                let listed = listed_of(slot.loaded()?);
                Some(Shown { listed, status: status(slot), expires: expires(slot) })
            })
            .collect();
        for listed in listed {
            let id = &listed.names.id;
            let slot = slots.iter().find(|slot| slot.id == *id);
            if slot.is_some_and(|slot| slot.is_pinned) {
                continue;
            }
            let failed = || state.failures.get(id).cloned().map_or(Status::Unloaded, Status::Failed);
            let (status, expires) = (slot.map_or_else(failed, status), slot.and_then(expires));
            all.push(Shown { listed, status, expires });
        }
        Ok(all)
    }

    /// The model of this name, with its state.
    pub async fn shown(self: &Arc<Self>, name: &str) -> Result<Shown, ApiError> {
        let id = self.id_of(Some(name)).await?;
        self.shown_by_id(&id).await
    }

    /// The model with this id, with its state.
    pub async fn shown_by_id(self: &Arc<Self>, id: &str) -> Result<Shown, ApiError> {
        let shown = self.list().await?.into_iter().find(|shown| shown.listed.names.id == id);
        shown.ok_or_else(|| of_library(id, LibraryError::Unknown))
    }

    /// The model of this name if it is loaded. It is not kept for that.
    pub async fn loaded(self: &Arc<Self>, name: Option<&str>) -> Result<Option<Arc<Loaded>>, ApiError> {
        let id = self.id_of(name).await?;
        Ok(self.state().shelf.named(&id).and_then(|slot| slot.loaded().map(Arc::clone)))
    }
}

fn status(slot: &Slot) -> Status {
    match &slot.stage {
        Stage::Loading(_) => Status::Loading,
        Stage::Ready(loaded) => Status::Loaded(Arc::clone(loaded)),
        Stage::Ending => Status::Unloaded,
    }
}

/// The end of a model's time; for one in use, if it were not used from now on.
fn expires(slot: &Slot) -> Option<SystemTime> {
    let super::KeepAlive::For(time) = slot.keep else { return None };
    let since = if slot.uses > 0 { Duration::ZERO } else { Instant::now().duration_since(slot.unused_since) };
    SystemTime::now().checked_add(time.saturating_sub(since))
}

/// A loaded model as a library would list it.
fn listed_of(loaded: &Loaded) -> ListedModel {
    let (model, gguf) = (loaded.model(), loaded.model().gguf());
    ListedModel {
        names: loaded.names.clone(),
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(loaded.created),
        bytes: gguf.tensor_bytes(),
        parameters: gguf.parameters(),
        architecture: model.architecture_name().to_string(),
        format: gguf.main_dtype().map_or_else(String::new, |dtype| dtype.name().to_string()),
        n_ctx_train: Some(model.architecture().shape().n_ctx_train as u64),
    }
}
