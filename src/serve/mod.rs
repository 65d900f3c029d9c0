//! The HTTP server: the interfaces of OpenAI, Anthropic, ollama and llama-server over one [`Engine`](crate::Engine).
//!
//! A request passes `guard` (hosts, origins, keys, one line of the log), is read by `body`, and becomes an `ask::Ask`: the
//! tokens of its prompt, `settings`, a constraint. Its replies leave as one JSON object or, by `stream`, event by event.
//! `openai`, `llama` and their neighbours have one file per route, which knows nothing but its own field names; `parts` has
//! the kinds of content that all of them share, and `error` the shapes of errors. `listen` owns connections and the end of
//! the server, `models` the models.
//!
//! This folder uses engines, text and samplers. It knows no session, no device and no command line, and reads or writes no
//! file: a request never names one.

mod anthropic;
mod apart;
mod app;
mod ask;
mod body;
mod error;
mod fill;
mod guard;
mod keys;
mod listen;
mod llama;
mod metrics;
mod models;
mod ollama;
mod openai;
mod openapi;
mod options;
mod page;
mod parts;
mod prompt;
mod request_log;
mod routes;
mod settings;
mod stream;
mod turn;
mod usage;

pub use keys::ApiKey;
pub use listen::Server;
pub use models::{
    Description, InvalidKeepAlive, KeepAlive, Library, LibraryError, ListedModel, Loaded, ModelNames,
    PullProgress,
};
pub use options::{ServeError, ServeOptions};
pub use parts::thoughts_apart;
