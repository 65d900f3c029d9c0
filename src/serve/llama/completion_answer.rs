//! A completion's answer, whole or piece by piece.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::completion_ask::CompletionAsk;
use crate::engine::{Event, Stop, Summary, TextEvent};
use crate::sampling::TokenLogprobs;
use crate::serve::error::{ApiError, Family};
use crate::serve::models::Held;
use crate::serve::openai::logprobs::chat_entry;
use crate::serve::parts::Whole;
use crate::serve::stream::{Frames, Writer};
use crate::serve::usage::{ms, timings};

pub(super) struct CompletionAnswer {
    loaded: Arc<Held>,
    ask: CompletionAsk,
    started: Instant,
    choices: Vec<Choice>,
}

/// The part of a choice that was sent.
#[derive(Clone, Copy, Default)]
struct Choice {
    n_generated: usize,
    n_cached: usize,
    has_new_line: bool,
    /// The time of the first token.
    first: Option<Instant>,
}

impl CompletionAnswer {
    pub fn new(loaded: Arc<Held>, ask: CompletionAsk) -> CompletionAnswer {
        let choices = vec![Choice::default(); ask.asks.len() * ask.n];
        CompletionAnswer { loaded, ask, started: Instant::now(), choices }
    }

    fn prompt(&self, index: usize) -> &[u32] {
        &self.ask.asks[index / self.ask.n].prompt
    }

    fn probabilities(&self, logprobs: &[TokenLogprobs]) -> Value {
        logprobs.iter().map(|token| chat_entry(self.loaded.tokenizer(), token)).collect()
    }

    /// A choice's answer in one object.
    pub fn whole(&mut self, index: usize, whole: &Whole) -> Value {
        self.choices[index].has_new_line = whole.text.contains('\n');
        let tokens = if self.ask.return_tokens { &whole.tokens[..] } else { &[] };
        let mut answer = self.last(index, &whole.text, tokens, &whole.summary);
        if !whole.logprobs.is_empty() {
            answer["completion_probabilities"] = self.probabilities(&whole.logprobs);
        }
        self.select(answer)
    }

    /// The object that ends a choice.
    fn last(&self, index: usize, text: &str, tokens: &[u32], summary: &Summary) -> Value {
        let stop_type = match summary.stop {
            Some(Stop::EndOfGeneration) => "eos",
            Some(Stop::StopString) => "word",
            Some(Stop::Limit | Stop::ContextFull) => "limit",
            _ => "none",
        };
        json!({
            "index": index,
            "content": text,
            "tokens": tokens,
            "id_slot": -1,
            "stop": true,
            "model": self.loaded.names.id,
            "tokens_predicted": summary.generated_tokens,
            "tokens_evaluated": summary.prompt_tokens,
            "generation_settings": self.ask.settings,
            "prompt": self.loaded.tokenizer().decode(self.prompt(index), true),
            "has_new_line": self.choices[index].has_new_line,
            "truncated": summary.stop == Some(Stop::ContextFull),
            "stop_type": stop_type,
            "stopping_word": summary.stop_string.as_deref().unwrap_or_default(),
            "tokens_cached": summary.prompt_tokens + summary.generated_tokens,
            "timings": timings(summary),
        })
    }

    /// The fields that the request wants.
    fn select(&self, answer: Value) -> Value {
        if self.ask.fields.is_empty() {
            return answer;
        }
        let mut selected = Map::new();
        for path in &self.ask.fields {
            let found = path.split('/').try_fold(&answer, |value, name| value.get(name));
            selected.extend(found.map(|value| (path.clone(), value.clone())));
        }
        selected.into()
    }

    /// The object of a piece of a choice's text.
    fn piece(&self, index: usize, text: &str, token: Option<u32>) -> Value {
        json!({
            "index": index,
            "content": text,
            "tokens": token.as_slice(),
            "stop": false,
            "id_slot": -1,
            "tokens_predicted": self.choices[index].n_generated,
            "tokens_evaluated": self.prompt(index).len(),
        })
    }

    fn text(&mut self, index: usize, event: &TextEvent, out: &mut Frames) {
        let choice = &mut self.choices[index];
        choice.n_generated += usize::from(event.token.is_some());
        choice.has_new_line |= event.text.contains('\n');
        choice.first.get_or_insert_with(Instant::now);
        if event.text.is_empty() && event.token.is_none() {
            return;
        }
        let mut piece = self.piece(index, &event.text, event.token);
        if let Some(token) = &event.logprobs {
            piece["completion_probabilities"] = self.probabilities(std::slice::from_ref(token));
        }
        if self.ask.timings_per_token {
            piece["timings"] = timings(&self.so_far(index));
        }
        out.data(&piece);
    }

    /// Counts and times of an unfinished choice.
    fn so_far(&self, index: usize) -> Summary {
        let choice = self.choices[index];
        let first = choice.first.unwrap_or(self.started);
        Summary {
            prompt_tokens: self.prompt(index).len(),
            cached_tokens: choice.n_cached,
            generated_tokens: choice.n_generated,
            prompt_time: first - self.started,
            decode_time: first.elapsed(),
            ..Summary::default()
        }
    }
}

impl Writer for CompletionAnswer {
    fn event(&mut self, index: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Prompt(progress) => {
                self.choices[index].n_cached = progress.cached;
                if self.ask.return_progress {
                    let mut piece = self.piece(index, "", None);
                    piece["prompt_progress"] = json!({
                        "total": progress.total,
                        "cache": progress.cached,
                        "processed": progress.done,
                        "time_ms": ms(self.started.elapsed()),
                    });
                    out.data(&piece);
                }
            }
            Event::Text(event) => self.text(index, event, out),
            Event::Finished(summary) => {
                let last = self.last(index, "", &[], summary);
                out.data(&self.select(last));
            }
            _ => {}
        }
    }

    /// As in llama-server, the last object says that it is the last.
    fn end(&mut self, _out: &mut Frames) {}

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        out.data(&error.body(Family::OpenAi, ""));
    }
}
