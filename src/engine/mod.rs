//! Answers: [`Generation`], which knows no session, and [`Chat`], which owns one.
//!
//! A [`Generation`] takes the output of its last row and gives the next row, so any number of generations can share a
//! [`Session`](crate::model::Session). [`Chat`] is the short way to a single conversation. This folder uses sessions,
//! samplers and text; it knows no operator and no device.

mod chat;
mod generation;

pub use chat::{Answer, AnswerOptions, Chat, ChatOptions};
pub use generation::{Advance, GenerateOptions, Generation, Next, Stop};
