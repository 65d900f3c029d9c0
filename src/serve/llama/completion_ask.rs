//! The request of a completion.

use serde_json::Value;

use crate::serve::ask::Ask;

/// The prompts of a completion's request, and the form of its answer.
pub(super) struct CompletionAsk {
    pub asks: Vec<Ask>,
    /// Answers to each prompt.
    pub n: usize,
    pub streams: bool,
    /// Fields of the answer, with `/` between the levels; empty: all.
    pub fields: Vec<String>,
    pub return_tokens: bool,
    pub return_progress: bool,
    pub timings_per_token: bool,
    /// The `generation_settings` of the answer.
    pub settings: Value,
}
