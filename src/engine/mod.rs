//! Answers: a generation that knows no session, and a chat that has one of its own.
//!
//! A [`Generation`] is given what came of its last row and says the next one, so any number of them can share a
//! [`Session`](crate::model::Session). [`Chat`] is the short way to one conversation. This folder knows sessions, samplers
//! and text; it knows no operator and no device.

mod chat;
mod generation;

pub use chat::{Answer, AnswerOptions, Chat, ChatOptions};
pub use generation::{Advance, GenerateOptions, Generation, Next, Stop};
