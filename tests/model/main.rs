//! Models and sessions: references, the KV cache, generation, embeddings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod architectures;
mod caches;
mod demo;
#[cfg(feature = "demo")]
mod embeddings;
#[cfg(feature = "demo")]
mod generation;
mod hostile;
mod keys;
#[cfg(feature = "demo")]
mod kv_cache;
mod models;
mod page;
#[cfg(feature = "demo")]
mod reuse;
mod rope_scaling;
mod schedules;
#[cfg(feature = "demo")]
mod session;
#[cfg(feature = "demo")]
mod step;
