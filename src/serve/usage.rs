//! Counts and times of requests, as the interfaces report them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Stop, Summary};

/// The counts of several choices of one prompt or of several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub prompt: usize,
    pub cached: usize,
    pub generated: usize,
    pub thoughts: usize,
}

impl Usage {
    /// Adds a choice. The prompt of several choices counts once: `n` choices follow each other.
    pub fn add(&mut self, choice: usize, n: usize, summary: &Summary, thoughts: usize) {
        if choice.is_multiple_of(n.max(1)) {
            self.prompt += summary.prompt_tokens;
            self.cached += summary.cached_tokens;
        }
        self.generated += summary.generated_tokens;
        self.thoughts += thoughts;
    }

    /// OpenAI's `usage`.
    pub fn openai(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.thoughts},
        })
    }

    /// OpenAI's `usage` of responses.
    pub fn responses(&self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.generated,
            "output_tokens_details": {"reasoning_tokens": self.thoughts},
            "total_tokens": self.prompt + self.generated,
        })
    }

    /// Anthropic's `usage`, in which cached tokens are not among the input's.
    pub fn anthropic(&self) -> Value {
        json!({
            "input_tokens": self.prompt.saturating_sub(self.cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.generated,
            "output_tokens_details": {"thinking_tokens": self.thoughts},
        })
    }
}

/// llama-server's `timings`.
pub(super) fn timings(summary: &Summary) -> Value {
    let computed = summary.prompt_tokens - summary.cached_tokens.min(summary.prompt_tokens);
    // The prompt's time ends with the first token, which therefore is not in the rate.
    let decoded = summary.generated_tokens.saturating_sub(1);
    json!({
        "cache_n": summary.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": ms(summary.prompt_time),
        "prompt_per_token_ms": per(ms(summary.prompt_time), computed),
        "prompt_per_second": rate(computed, summary.prompt_time),
        "predicted_n": summary.generated_tokens,
        "predicted_ms": ms(summary.decode_time),
        "predicted_per_token_ms": per(ms(summary.decode_time), decoded),
        "predicted_per_second": rate(decoded, summary.decode_time),
    })
}

pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn per(ms: f64, n: usize) -> f64 {
    if n == 0 { 0.0 } else { ms / n as f64 }
}

fn rate(n: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() }
}

/// OpenAI's `finish_reason`.
pub(super) fn finish_reason(stop: Option<Stop>, calls: bool) -> &'static str {
    match stop {
        Some(Stop::Limit | Stop::ContextFull) => "length",
        _ if calls => "tool_calls",
        _ => "stop",
    }
}
