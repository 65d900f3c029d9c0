//! Options of an engine, and a view of its work.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{SessionExtras, SessionOptions};

/// Options of an engine.
#[derive(Clone)]
pub struct EngineOptions {
    /// Sizes, memory and devices. `n_sequences` is the most requests that are computed at a time, and `n_tokens` the
    /// room that they share.
    pub session: SessionOptions,
    /// Settings for GPUs, and custom operators.
    pub extras: SessionExtras,
    /// The most requests that wait; further ones are refused.
    pub max_queue: usize,
    /// The time of a step, which bounds the rows of prompts in it: the longest pause in the text of running answers
    /// while prompts are computed. A step has at least 16 rows of a waiting prompt, whatever they take.
    pub step_time: Duration,
    /// The time after which a request whose events are not read ends.
    pub reader_timeout: Duration,
    /// Called after each step, on the engine's thread.
    pub on_step: Option<OnStep>,
}

/// A callback that receives each step's sizes and time.
pub type OnStep = Arc<dyn Fn(&StepReport) + Send + Sync>;

/// The sizes and the time of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepReport {
    /// Rows of answers.
    pub decode_rows: usize,
    /// Rows of prompts and of texts to embed.
    pub prompt_rows: usize,
    /// The time of the step.
    pub time: Duration,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        let session =
            SessionOptions { n_sequences: 32, n_tokens: Some(4 * 4096), ..SessionOptions::default() };
        EngineOptions {
            session,
            extras: SessionExtras::default(),
            max_queue: 256,
            step_time: Duration::from_millis(50),
            reader_timeout: Duration::from_secs(30),
            on_step: None,
        }
    }
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("session", &self.session)
            .field("extras", &self.extras)
            .field("max_queue", &self.max_queue)
            .field("step_time", &self.step_time)
            .field("reader_timeout", &self.reader_timeout)
            .finish_non_exhaustive()
    }
}

/// A request that is computed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Running {
    /// Its number in the order of submission.
    pub number: u64,
    /// The number of its sequence, below [`Engine::n_sequences`](super::Engine::n_sequences).
    pub sequence: usize,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Tokens of its answer so far.
    pub generated_tokens: usize,
    /// The most tokens of its answer, if there is a limit.
    pub max_tokens: Option<usize>,
}

/// The engine's work, as counts since its start and present sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that are computed.
    pub running: usize,
    /// Requests that wait, with those that were put aside.
    pub waiting: usize,
    /// Requests that finished.
    pub finished: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were cancelled while they waited.
    pub cancelled_waiting: u64,
    /// Requests that were cancelled in their prompt.
    pub cancelled_prompt: u64,
    /// Requests that were cancelled in their answer.
    pub cancelled_answer: u64,
    /// The number of times that a request was put aside.
    pub put_aside: u64,
    /// Steps.
    pub steps: u64,
    /// Tokens of admitted prompts.
    pub prompt_tokens: u64,
    /// Tokens of these whose state was found.
    pub cached_tokens: u64,
    /// Generated tokens.
    pub generated_tokens: u64,
    /// Tokens that still fit into the shared room.
    pub free_tokens: usize,
    /// The shared room in tokens.
    pub total_tokens: usize,
}
