//! OpenAI's interface: one file per route; `messages` reads conversations, `format` the constraints on answers.

pub(super) mod chat;
mod chat_stream;
pub(super) mod completions;
pub(super) mod embeddings;
pub(super) mod format;
pub(super) mod logprobs;
pub(super) mod messages;
pub(super) mod models;
