//! One request's times and counts: for the metrics, and for its line in the log.

use std::sync::Arc;
use std::time::Instant;

use super::app::App;
use super::ask::Client;
use super::models::Loaded;
use super::usage::ms;
use crate::engine::{Event, Summary};

/// Follows the events of a request. Dropped before the last one, the client has left.
pub(super) struct RequestLog {
    app: Arc<App>,
    model: String,
    client: Client,
    started: Instant,
    choices: Vec<Choice>,
    prompt: usize,
    cached: usize,
    generated: usize,
    reason: &'static str,
    first: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Choice {
    last: Option<Instant>,
    over: bool,
}

impl RequestLog {
    pub fn new(app: &Arc<App>, loaded: &Loaded, client: &Client) -> RequestLog {
        RequestLog {
            app: Arc::clone(app),
            model: loaded.names.id.clone(),
            client: client.clone(),
            started: Instant::now(),
            choices: Vec::new(),
            prompt: 0,
            cached: 0,
            generated: 0,
            reason: "cancelled",
            first: None,
        }
    }

    pub fn event(&mut self, number: usize, event: &Event) {
        if self.choices.len() <= number {
            self.choices.resize(number + 1, Choice::default());
        }
        let now = Instant::now();
        let metrics = &self.app.metrics;
        let choice = &mut self.choices[number];
        match event {
            Event::Text(text) if text.token.is_some() => {
                match choice.last.replace(now) {
                    None => metrics.first_token(&self.model, now - self.started),
                    Some(last) => metrics.next_token(&self.model, now - last),
                }
                self.first.get_or_insert(now);
            }
            Event::Finished(summary) => {
                choice.over = true;
                self.finished(summary, now);
            }
            Event::Failed(_) => {
                choice.over = true;
                self.reason = "error";
                metrics.failed(&self.model);
            }
            _ => {}
        }
    }

    fn finished(&mut self, summary: &Summary, now: Instant) {
        self.prompt += summary.prompt_tokens;
        self.cached += summary.cached_tokens;
        self.generated += summary.generated_tokens;
        self.reason = summary.stop.map_or("done", |stop| stop.name());
        self.app.metrics.finished(&self.model, summary, now - self.started);
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let left = self.choices.is_empty() || self.choices.iter().any(|choice| !choice.over);
        let key = self.client.key.and_then(|key| self.app.options.keys.get(key));
        tracing::info!(
            target: "rfgraph::request",
            id = %self.client.request_id.escape_debug(),
            path = self.client.path,
            key = key.map_or("", |key| key.name.as_str()),
            model = self.model.as_str(),
            prompt = self.prompt,
            cached = self.cached,
            generated = self.generated,
            first_token_ms = self.first.map_or(0.0, |first| ms(first - self.started)),
            total_ms = ms(self.started.elapsed()),
            end = if left && self.reason != "error" { "client left" } else { self.reason },
        );
    }
}
