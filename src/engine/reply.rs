//! A reply: the stream of events that a request leads to.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Stop;
use crate::model::ModelError;
use crate::sampling::TokenLogprobs;
use crate::text::Delta;

/// An event of a reply. The last one is [`Event::Finished`] or [`Event::Failed`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A part of the prompt was computed.
    Prompt(PromptProgress),
    /// The log-probabilities of the prompt's tokens from the second on, if they were requested.
    PromptLogprobs(Vec<TokenLogprobs>),
    /// A token was chosen, or text that was held back is final.
    Text(TextEvent),
    /// The embedding: `n_embd` numbers, not normalized.
    Embedding(Vec<f32>),
    /// The request is done.
    Finished(Summary),
    /// The request failed.
    Failed(EngineError),
}

/// Progress of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptProgress {
    /// Tokens of the prompt.
    pub total: usize,
    /// Tokens whose state was found.
    pub cached: usize,
    /// Tokens whose state was found or computed so far.
    pub done: usize,
}

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TextEvent {
    /// Text for the user that is now final. It may be empty: inside an incomplete character, a possible stop string,
    /// thoughts or a tool call.
    pub text: String,
    /// All that is now final, by parts of the answer.
    pub deltas: Vec<Delta>,
    /// The chosen token; `None` if the answer ended with an end token, and only held back text is given.
    pub token: Option<u32>,
    /// The token's log-probabilities, if they were requested.
    pub logprobs: Option<TokenLogprobs>,
}

/// The end of a request, with its counts and times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Reason for the end of an answer; `None` for an embedding.
    pub stop: Option<Stop>,
    /// The stop string that was found.
    pub stop_string: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose state was found when the request was admitted, so that they were not computed.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub generated_tokens: usize,
    /// The number of times that the request was put aside because memory was short.
    pub times_put_aside: usize,
    /// Time from the submission until the request was admitted.
    pub queue_time: Duration,
    /// Time from the admission until the whole prompt was computed.
    pub prompt_time: Duration,
    /// Time from then on.
    pub decode_time: Duration,
}

/// Reason why a request was refused, or failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Too many requests wait.
    #[error("{waiting} requests wait, and at most {most} may: try again later")]
    Busy {
        /// Requests that wait.
        waiting: usize,
        /// The most that may ([`EngineOptions::max_queue`](super::EngineOptions::max_queue)).
        most: usize,
    },
    /// The request is invalid, or computing it failed.
    #[error(transparent)]
    Model(#[from] Arc<ModelError>),
    /// The events were not read.
    #[error("the reply was not read for {} s", waited.as_secs())]
    SlowReader {
        /// The time without a read.
        waited: Duration,
    },
    /// The engine has stopped.
    #[error("the engine has stopped: {reason}")]
    Stopped {
        /// The reason.
        reason: String,
    },
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> EngineError {
        EngineError::Model(Arc::new(error))
    }
}

/// The events of a request. Dropping it cancels the request within one step.
///
/// The engine pauses a request whose events are not read, and ends it after
/// [`EngineOptions::reader_timeout`](super::EngineOptions::reader_timeout).
#[derive(Debug)]
pub struct Reply {
    events: mpsc::Receiver<Event>,
    over: bool,
}

impl Reply {
    pub(super) fn new(events: mpsc::Receiver<Event>) -> Reply {
        Reply { events, over: false }
    }

    /// Waits for the next event; `None` after the last one. For asynchronous programs; it needs no certain runtime.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// Polls for the next event, as [`recv`](Self::recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.over {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(context));
        Poll::Ready(Some(self.checked(event)))
    }

    /// The next event, if there is one now or the reply is over.
    pub fn try_recv(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            _ if self.over => None,
            Ok(event) => Some(self.checked(Some(event))),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(self.checked(None)),
        }
    }

    /// A reply whose sender is gone without a last event belongs to an engine whose thread ended.
    fn checked(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or_else(|| {
            Event::Failed(EngineError::Stopped { reason: "its thread ended".to_string() })
        });
        self.over = matches!(event, Event::Finished(_) | Event::Failed(_));
        event
    }

    /// Waits for the whole answer's text.
    ///
    /// # Errors
    /// The error of [`Event::Failed`].
    pub fn text(self) -> Result<(String, Summary), EngineError> {
        let mut text = String::new();
        for event in self {
            match event {
                Event::Text(piece) => text.push_str(&piece.text),
                Event::Finished(summary) => return Ok((text, summary)),
                Event::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Ok((text, Summary::default()))
    }
}

/// Waits for each event, blocking the thread.
impl Iterator for Reply {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.checked(event))
    }
}
