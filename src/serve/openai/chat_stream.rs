//! A chat's answer chunk by chunk.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::chat_ask::{ChatAsk, call_id, fingerprint};
use super::logprobs::chat_entry;
use crate::engine::{Event, Summary, TextEvent};
use crate::serve::app::now;
use crate::serve::error::{ApiError, Family};
use crate::serve::models::Held;
use crate::serve::parts::{Piece, View, is_thoughts};
use crate::serve::stream::{Frames, Writer};
use crate::serve::usage::{Usage, finish_reason, ms, timings};

pub(super) struct ChatStream {
    loaded: Arc<Held>,
    id: String,
    created: u64,
    view: View,
    include_usage: bool,
    return_progress: bool,
    timings_per_token: bool,
    logprobs: bool,
    started: Instant,
    choices: Vec<Choice>,
    usage: Usage,
    summary: Summary,
}

/// The part of a choice that was sent.
#[derive(Clone, Default)]
struct Choice {
    /// The counts and times so far, as this stream sees them.
    so_far: Summary,
    begun: bool,
    n_calls: usize,
    n_thoughts: usize,
}

impl ChatStream {
    pub fn new(loaded: Arc<Held>, id: String, chat: &ChatAsk) -> ChatStream {
        ChatStream {
            loaded,
            id,
            created: now(),
            view: chat.view,
            include_usage: chat.include_usage,
            return_progress: chat.return_progress,
            timings_per_token: chat.timings_per_token,
            logprobs: chat.ask.settings.limits.logprobs.is_some(),
            started: Instant::now(),
            choices: vec![Choice::default(); chat.n],
            usage: Usage::default(),
            summary: Summary::default(),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.loaded.names.id,
            "system_fingerprint": fingerprint(),
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, index: usize, delta: Value, logprobs: Value, finish: Option<&str>) -> Value {
        self.chunk(json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]))
    }

    /// The first chunk of a choice says who speaks, and no later one does.
    fn begin(&mut self, index: usize, out: &mut Frames) {
        if !std::mem::replace(&mut self.choices[index].begun, true) {
            out.data(&self.delta(index, json!({"role": "assistant", "content": null}), Value::Null, None));
        }
    }

    fn text(&mut self, index: usize, event: &TextEvent, out: &mut Frames) {
        self.begin(index, out);
        let time = self.started.elapsed();
        let choice = &mut self.choices[index];
        choice.n_thoughts += usize::from(is_thoughts(event));
        choice.so_far.generated_tokens += usize::from(event.token.is_some());
        choice.so_far.decode_time = time.saturating_sub(choice.so_far.prompt_time);
        let mut logprobs = Value::Null;
        if let Some(token) = event.logprobs.as_ref().filter(|_| self.logprobs) {
            let entry = chat_entry(self.loaded.tokenizer(), token);
            logprobs = json!({"content": [entry], "refusal": null});
        }
        let mut pieces = self.view.pieces(&event.deltas);
        pieces.retain(|piece| !matches!(piece, Piece::Call(_)));
        if pieces.is_empty() && !logprobs.is_null() {
            // A token inside a character or a marker: its probability goes with an empty text.
            out.data(&self.delta(index, json!({"content": ""}), logprobs.take(), None));
        }
        for piece in pieces {
            let delta = match piece {
                Piece::Thoughts(text) => json!({"reasoning_content": text}),
                Piece::Text(text) => json!({"content": text}),
                Piece::CallBegins(own, name) => {
                    let n = self.choices[index].n_calls;
                    self.choices[index].n_calls += 1;
                    let id = call_id(&self.id, index, n, own);
                    let function = json!({"name": name, "arguments": ""});
                    json!({"tool_calls": [{"index": n, "id": id, "type": "function", "function": function}]})
                }
                Piece::Arguments(text) => {
                    let n = self.choices[index].n_calls.saturating_sub(1);
                    json!({"tool_calls": [{"index": n, "function": {"arguments": text}}]})
                }
                Piece::Call(_) => continue,
            };
            let mut chunk = self.delta(index, delta, logprobs.take(), None);
            if self.timings_per_token {
                chunk["timings"] = timings(&self.choices[index].so_far);
            }
            out.data(&chunk);
        }
    }
}

impl Writer for ChatStream {
    fn event(&mut self, index: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Prompt(progress) => {
                let time = self.started.elapsed();
                let so_far = &mut self.choices[index].so_far;
                (so_far.prompt_tokens, so_far.cached_tokens) = (progress.total, progress.cached);
                so_far.prompt_time = time;
                if !self.return_progress {
                    return;
                }
                self.begin(index, out);
                let mut chunk = self.delta(index, json!({}), Value::Null, None);
                chunk["prompt_progress"] = json!({
                    "total": progress.total,
                    "cache": progress.cached,
                    "processed": progress.done,
                    "time_ms": ms(time),
                });
                out.data(&chunk);
            }
            Event::Text(text) => self.text(index, text, out),
            Event::Finished(summary) => {
                self.begin(index, out);
                let Choice { n_calls, n_thoughts, .. } = self.choices[index];
                self.usage.add(index, self.choices.len(), summary, n_thoughts);
                let reason = finish_reason(summary.stop, n_calls > 0);
                let mut chunk = self.delta(index, json!({}), Value::Null, Some(reason));
                chunk["timings"] = timings(summary);
                out.data(&chunk);
                self.summary = summary.clone();
            }
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Frames) {
        if self.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = self.usage.openai();
            chunk["timings"] = timings(&self.summary);
            out.data(&chunk);
        }
        out.text("data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        out.data(&error.body(Family::OpenAi, &self.id));
    }
}
