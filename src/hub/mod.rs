//! Models by name: downloads from Hugging Face, and the model files that are already on this machine.
//!
//! This folder turns names into paths of GGUF files. It opens files to say what is in them (`gguf`), and it knows the
//! names of the samplers' settings for the presets (`sampling`). It knows no model, session or device.
//!
//! [`Store`] answers "which file is this name?" and "what is there?" over all sources: the presets
//! ([`Preset`]), Hugging Face's cache, and, read-only, llama.cpp's cache, ollama's store and a folder. [`pull`]
//! downloads into Hugging Face's cache, in its layout, so that other programs find the files too.
//!
//! `reference` checks names, also those in remote answers, before they become paths; `variant` divides a list of files
//! into models; `client` speaks HTTP, with redirects, back-off and the token; `listing` reads a repository's files;
//! `download` fetches one file, with resume and checksum; `cache` knows the layout; `copy` gives further names; `remove` deletes.

mod cache;
mod client;
mod copy;
mod details;
mod download;
mod error;
mod listing;
mod places;
mod preset;
mod pull;
mod reference;
mod remove;
mod store;
mod variant;

pub use client::{HubOptions, Token};
pub use copy::copy;
pub use details::Details;
pub use error::HubError;
pub use places::Places;
pub use preset::Preset;
pub use pull::{Event, Pulled, pull};
pub use reference::Reference;
pub use remove::{Removal, remove};
pub use store::{Entry, Source, Store};
