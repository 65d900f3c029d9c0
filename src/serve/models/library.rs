//! Models that a server can load: who starts the server says which there are, and how they are loaded and changed.

use std::ops::ControlFlow;
use std::time::SystemTime;

use super::{Loaded, ModelNames};
use crate::engine::OnStep;
use crate::model::Model;
use crate::sampling::SamplerParams;

/// The models of a server by their names. The server calls it on threads that may wait, and loads one model at a time.
///
/// A server reads no files; what it serves, and from where, is the library's business.
pub trait Library: Send + Sync {
    /// All models that are there now. Clients ask often.
    fn list(&self) -> Vec<ListedModel>;

    /// The id of the model with this name.
    ///
    /// # Errors
    /// [`LibraryError::Unknown`] or [`LibraryError::Invalid`].
    fn find(&self, name: &str) -> Result<String, LibraryError>;

    /// Opens a model without loading it.
    ///
    /// # Errors
    /// The model cannot be read.
    fn describe(&self, id: &str) -> Result<Description, LibraryError>;

    /// Loads a model; `on_step` is for its engine.
    ///
    /// # Errors
    /// [`LibraryError::Memory`] if it could be loaded with more memory: the server then ends the least recently used
    /// model and tries again.
    fn load(&self, id: &str, on_step: OnStep) -> Result<Loaded, LibraryError>;

    /// Downloads a model. `on_progress` ends the download by `Break`.
    ///
    /// # Errors
    /// The library does not download, or the download failed.
    fn pull(
        &self,
        name: &str,
        on_progress: &mut dyn FnMut(PullProgress) -> ControlFlow<()>,
    ) -> Result<(), LibraryError> {
        let (_, _) = (name, on_progress);
        Err(LibraryError::Unsupported)
    }

    /// Deletes a model.
    ///
    /// # Errors
    /// The library does not delete, or not this model.
    fn delete(&self, id: &str) -> Result<(), LibraryError> {
        let _ = id;
        Err(LibraryError::Unsupported)
    }

    /// Gives a model a further name.
    ///
    /// # Errors
    /// The library does not name models, or the name cannot be used.
    fn copy(&self, id: &str, name: &str) -> Result<(), LibraryError> {
        let (_, _) = (id, name);
        Err(LibraryError::Unsupported)
    }
}

/// A model in lists.
#[derive(Clone, Debug)]
pub struct ListedModel {
    /// Its names.
    pub names: ModelNames,
    /// Time at which its file was written, or at which it was loaded.
    pub modified: SystemTime,
    /// Bytes of its file.
    pub bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// The architecture, such as `llama`; empty if it is not known.
    pub architecture: String,
    /// The dtype of most weights, such as `Q4_K`; empty if it is not known.
    pub format: String,
    /// Size of the context that it was trained with.
    pub n_ctx_train: Option<u64>,
}

/// A model that is not loaded.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its file.
    pub model: Model,
    /// The samplers' settings for requests that have none.
    pub sampling: SamplerParams,
}

/// Bytes of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the model; 0 until they are known.
    pub total: u64,
}

/// Reason why a library cannot do something. Clients see the texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// No model has this name.
    #[error("there is no model of this name")]
    Unknown,
    /// A name that cannot be used, or that fits several models.
    #[error("{0}")]
    Invalid(String),
    /// Too little memory, or too little beside the other models.
    #[error("{0}")]
    Memory(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// The library does not do this.
    #[error("this server does not change its models")]
    Unsupported,
}
