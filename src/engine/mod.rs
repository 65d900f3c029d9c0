//! Answers: [`Engine`], many at once; [`Generation`], which knows no session; and [`Chat`], which owns one.
//!
//! A [`Generation`] takes the output of its last row and gives the next row, so any number of generations can share a
//! [`Session`](crate::model::Session). The [`Engine`] does so: its thread owns a session and only chooses the next step
//! (`worker`). [`Chat`] is the short way to a single conversation. This folder uses sessions, samplers and text; it
//! knows no operator, no device and no network.

mod chat;
mod clock;
mod deliver;
mod generation;
mod handle;
mod job;
mod options;
mod pace;
mod reply;
mod request;
mod shared;
#[cfg(feature = "demo")]
#[cfg(test)]
mod tests;
mod worker;

pub use chat::{Answer, AnswerOptions, Chat, ChatOptions};
pub use generation::{Advance, GenerateOptions, Generation, Next, Stop};
pub use handle::Engine;
pub use options::{EngineOptions, OnStep, Running, Stats, StepReport};
pub use reply::{EngineError, Event, PromptProgress, Reply, Summary, TextEvent};
pub use request::Request;
