//! The state that all requests share.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::ServeOptions;
use super::metrics::Metrics;
use super::models::Models;
use super::openai::stored::Responses;

pub(super) struct App {
    pub options: ServeOptions,
    pub models: Arc<Models>,
    pub metrics: Arc<Metrics>,
    pub responses: Responses,
    /// Random for each start of the server, so that no client can compute another's salt.
    salts: RandomState,
    n_ids: AtomicU64,
}

impl App {
    pub fn new(options: ServeOptions) -> App {
        let metrics = Arc::new(Metrics::new());
        let models = Models::new(options.max_models, options.keep_alive, Arc::clone(&metrics));
        App {
            options,
            models: Arc::new(models),
            metrics,
            responses: Responses::default(),
            salts: RandomState::new(),
            n_ids: AtomicU64::new(0),
        }
    }

    /// The salt of a client's prefixes: of its key and of the request's own salt.
    pub fn salt(&self, key: Option<usize>, salt: Option<&str>) -> u64 {
        match (key, salt) {
            (None, None) => 0,
            both => self.salts.hash_one(both),
        }
    }

    /// A name that no other request has, such as `chatcmpl-4f1d…`.
    pub fn unique(&self, prefix: &str) -> String {
        let n = self.n_ids.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{:016x}{:08x}", self.salts.hash_one(("id", n)), n as u32)
    }

    /// A number that no other request gets.
    pub fn random(&self) -> u64 {
        self.salts.hash_one(("seed", self.n_ids.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or(0)
}
