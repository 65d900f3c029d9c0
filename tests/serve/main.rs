//! The server, over real connections, with the demo model.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "serve", feature = "demo"))]

mod anthropic;
mod bodies;
mod changed_model;
mod chats;
mod client;
mod completions;
mod described;
mod guard;
mod hostile;
mod llama;
mod load;
mod named_events;
mod ollama;
mod responses;
mod several;
mod thoughts;
mod tools;
