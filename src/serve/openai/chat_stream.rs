//! A chat's answer chunk by chunk.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::chat::{ChatAsk, call_id, fingerprint};
use super::logprobs::chat_entry;
use crate::engine::{Event, Summary, TextEvent};
use crate::serve::app::now;
use crate::serve::error::{ApiError, Family};
use crate::serve::models::Held;
use crate::serve::parts::{Piece, View, arguments, is_thoughts};
use crate::serve::stream::{Frames, Writer};
use crate::serve::usage::{Usage, finish_reason, ms, timings};

pub(super) struct ChatStream {
    loaded: Arc<Held>,
    id: String,
    created: u64,
    view: View,
    include_usage: bool,
    return_progress: bool,
    logprobs: bool,
    started: Instant,
    choices: Vec<Choice>,
    usage: Usage,
    summary: Summary,
}

/// What was sent of a choice.
#[derive(Clone, Copy, Default)]
struct Choice {
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
        self.choices[index].n_thoughts += usize::from(is_thoughts(event));
        let mut logprobs = Value::Null;
        if let Some(token) = event.logprobs.as_ref().filter(|_| self.logprobs) {
            let entry = chat_entry(self.loaded.tokenizer(), token);
            logprobs = json!({"content": [entry], "refusal": null});
        }
        let pieces = self.view.pieces(&event.deltas);
        if pieces.is_empty() && !logprobs.is_null() {
            // A token inside a character: its probability goes with an empty text.
            out.data(&self.delta(index, json!({"content": ""}), logprobs.take(), None));
        }
        for piece in pieces {
            let delta = match piece {
                Piece::Thoughts(text) => json!({"reasoning_content": text}),
                Piece::Text(text) => json!({"content": text}),
                Piece::Call(call) => {
                    let n = self.choices[index].n_calls;
                    self.choices[index].n_calls += 1;
                    let id = call_id(&self.id, index, n, call);
                    let function = json!({"name": call.name, "arguments": ""});
                    let begun = json!({"index": n, "id": id, "type": "function", "function": function});
                    out.data(&self.delta(index, json!({"tool_calls": [begun]}), logprobs.take(), None));
                    let rest = json!({"index": n, "function": {"arguments": arguments(call)}});
                    json!({"tool_calls": [rest]})
                }
            };
            out.data(&self.delta(index, delta, logprobs.take(), None));
        }
    }
}

impl Writer for ChatStream {
    fn event(&mut self, index: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Prompt(progress) if self.return_progress => {
                self.begin(index, out);
                let mut chunk = self.delta(index, json!({}), Value::Null, None);
                chunk["prompt_progress"] = json!({
                    "total": progress.total,
                    "cache": progress.cached,
                    "processed": progress.done,
                    "time_ms": ms(self.started.elapsed()),
                });
                out.data(&chunk);
            }
            Event::Text(text) => self.text(index, text, out),
            Event::Finished(summary) => {
                self.begin(index, out);
                let choice = self.choices[index];
                self.usage.add(index, self.choices.len(), summary, choice.n_thoughts);
                let reason = finish_reason(summary.stop, choice.n_calls > 0);
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
