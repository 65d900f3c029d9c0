//! OpenAI's interface: one file per route; `messages` reads conversations, `format` the constraints on answers;
//! `stored` keeps responses.

pub(super) mod chat;
pub(super) mod chat_ask;
mod chat_stream;
pub(super) mod completions;
pub(super) mod embeddings;
pub(super) mod format;
pub(super) mod logprobs;
pub(super) mod messages;
pub(super) mod models;
pub(super) mod responses;
mod responses_answer;
mod responses_input;
#[cfg(test)]
mod responses_tests;
pub(super) mod stored;
