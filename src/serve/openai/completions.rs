//! `POST /v1/completions`: plain text continued, several prompts at a time, with the prompt's own probabilities.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::chat_ask::fingerprint;
use super::format;
use super::logprobs::Lists;
use crate::engine::{Event, Summary};
use crate::sampling::TokenLogprobs;
use crate::serve::apart::apart;
use crate::serve::app::{App, now};
use crate::serve::ask::{Ask, Client, submit};
use crate::serve::body::Body;
use crate::serve::error::{ApiError, Family, Kind};
use crate::serve::models::{Held, Loaded};
use crate::serve::parts::{View, collect};
use crate::serve::settings::{MOST_LOGPROBS, Settings, flag, given, whole};
use crate::serve::stream::{self, Frames, Writer};
use crate::serve::usage::{Usage, finish_reason, timings};
use crate::text::{EncodeOptions, Tokenizer};

/// The most prompts of a request, and the most answers to all of them.
const MOST_PROMPTS: usize = 256;

/// An answer without parts.
const PLAIN: View = View { thoughts_apart: false, calls_apart: false };

struct CompletionAsk {
    asks: Vec<Ask>,
    n: usize,
    echo: bool,
    streams: bool,
    include_usage: bool,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/v1/completions", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let completion = {
        let (app, loaded) = (Arc::clone(&app), Arc::clone(&loaded));
        apart(move || read(&app, &loaded, &body)).await?
    };
    let replies = submit(&app, &loaded, &client, &completion.asks, completion.n)?;
    let id = app.unique("cmpl-");
    let writer = Completion::new(loaded, id, completion);
    if writer.ask.streams {
        return Ok(stream::respond(replies, writer));
    }
    let mut writer = writer;
    let mut choices = Vec::new();
    for (index, choice) in collect(replies, PLAIN).await?.into_iter().enumerate() {
        let echo = writer.echo(index, &choice.prompt_logprobs);
        choice.logprobs.iter().for_each(|token| writer.logprob(index, token));
        writer.finish(index, &choice.summary);
        let logprobs = writer.take_logprobs(index);
        let reason = finish_reason(choice.summary.stop, false);
        choices.push(choice_value(index, &(echo + &choice.text), logprobs, Some(reason)));
    }
    let mut answer = writer.chunk(choices.into());
    answer["usage"] = writer.usage.openai();
    answer["timings"] = timings(&writer.summary);
    Ok(Json(answer).into_response())
}

fn read(app: &App, loaded: &Loaded, body: &Body) -> Result<CompletionAsk, ApiError> {
    if given(&body.0, "suffix").is_some_and(|suffix| suffix != "") {
        return Err(ApiError::unsupported("suffix", "leave it out"));
    }
    let mut settings = Settings::read(&body.0, app, loaded)?;
    // OpenAI's limit for plain text; without it a prompt without an end would fill the context.
    settings.limits.max_tokens.get_or_insert(16);
    if whole(&body.0, "max_tokens", -2, i64::from(i32::MAX))?.is_some_and(|n| n < 0) {
        settings.limits.max_tokens = None;
    }
    let logprobs = logprobs(&body.0)?;
    settings.limits.logprobs = logprobs;
    let echo = flag(&body.0, "echo")?.unwrap_or(false);
    let constraint = match format::constraint(&body.0)? {
        Some((source, name)) => Some(loaded.constraint(&source, name)?),
        None => None,
    };
    let prompts = match given(&body.0, "prompt") {
        Some(prompt) => prompts(prompt, loaded.tokenizer(), "prompt")?,
        None => return Err(ApiError::invalid("prompt", "prompt is missing")),
    };
    let n = whole(&body.0, "n", 1, 32)?.unwrap_or(1) as usize;
    let asks = prompts.into_iter().map(|prompt| Ask {
        constraint: constraint.clone(),
        prompt_logprobs: logprobs.filter(|_| echo),
        ..Ask::plain(prompt, settings.clone())
    });
    let asks: Vec<Ask> = asks.collect();
    if asks.len() * n > MOST_PROMPTS {
        let message = format!("{} prompts with n = {n}: {MOST_PROMPTS} answers are the most", asks.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let options = given(&body.0, "stream_options").and_then(|options| options.get("include_usage"));
    Ok(CompletionAsk {
        asks,
        n,
        echo,
        streams: flag(&body.0, "stream")?.unwrap_or(false),
        include_usage: options.and_then(Value::as_bool).unwrap_or(false),
    })
}

/// `logprobs`, a number here; a chat's client may send `true`.
fn logprobs(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    match given(fields, "logprobs") {
        Some(Value::Bool(wanted)) => Ok(wanted.then_some(0)),
        _ => Ok(whole(fields, "logprobs", 0, MOST_LOGPROBS as i64)?.map(|n| n as usize)),
    }
}

/// Prompts: a text, tokens, or a list of texts and of lists of tokens; also a list that mixes texts and tokens, which is
/// one prompt.
pub(in crate::serve) fn prompts(
    value: &Value,
    tokenizer: &Tokenizer,
    name: &str,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let items = match value {
        Value::Array(items) => items,
        single => return Ok(vec![prompt(std::slice::from_ref(single), tokenizer, name)?]),
    };
    let is_one = items.iter().any(Value::is_number);
    if is_one {
        return Ok(vec![prompt(items, tokenizer, name)?]);
    }
    if items.is_empty() || items.len() > MOST_PROMPTS {
        let message = format!("{name} has {} entries; it must have 1 to {MOST_PROMPTS}", items.len());
        return Err(ApiError::invalid(name, message));
    }
    let each = items.iter().enumerate().map(|(i, item)| {
        let name = format!("{name}[{i}]");
        match item {
            Value::Array(items) => prompt(items, tokenizer, &name),
            single => prompt(std::slice::from_ref(single), tokenizer, &name),
        }
    });
    each.collect()
}

/// One prompt: texts and tokens, one after the other.
fn prompt(items: &[Value], tokenizer: &Tokenizer, name: &str) -> Result<Vec<u32>, ApiError> {
    let mut tokens = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let text = match item {
            Value::Object(fields)
                if given(fields, "multimodal_data").is_some_and(|data| *data != json!([])) =>
            {
                let message =
                    format!("{name}: multimodal_data is not supported: this server reads text alone");
                return Err(ApiError {
                    param: Some(name.into()),
                    ..ApiError::new(Kind::NotSupported, message)
                });
            }
            Value::Object(fields) => fields.get("prompt_string").and_then(Value::as_str),
            other => other.as_str(),
        };
        match (text, item.as_u64()) {
            (Some(text), _) => {
                let options = EncodeOptions { add_special: i == 0, parse_special: true };
                tokens.extend(tokenizer.encode(text, options));
            }
            (None, Some(id)) if id < tokenizer.n_vocab() as u64 => tokens.push(id as u32),
            (None, Some(id)) => {
                let n = tokenizer.n_vocab();
                let message = format!("{name}: there is no token {id}; the vocabulary has {n}");
                return Err(ApiError::invalid(name, message));
            }
            (None, None) => {
                return Err(ApiError::invalid(name, format!("{name} must be a text or a list of tokens")));
            }
        }
    }
    if tokens.is_empty() {
        // An empty text begins with the token that begins every text.
        tokens.extend(tokenizer.bos().or(tokenizer.eos()));
    }
    if tokens.is_empty() {
        return Err(ApiError::invalid(name, format!("{name} is empty")));
    }
    Ok(tokens)
}

/// Writes completions, whole or chunk by chunk.
struct Completion {
    loaded: Arc<Held>,
    id: String,
    created: u64,
    ask: CompletionAsk,
    lists: Vec<Lists>,
    usage: Usage,
    summary: Summary,
}

fn choice_value(index: usize, text: &str, logprobs: Value, finish: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
}

impl Completion {
    fn new(loaded: Arc<Held>, id: String, ask: CompletionAsk) -> Completion {
        let lists = (0..ask.asks.len() * ask.n).map(|_| Lists::default()).collect();
        let (usage, summary) = (Usage::default(), Summary::default());
        Completion { loaded, id, created: now(), ask, lists, usage, summary }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.loaded.names.id,
            "system_fingerprint": fingerprint(),
            "choices": choices,
        })
    }

    fn wants_logprobs(&self) -> bool {
        self.ask.asks.first().is_some_and(|ask| ask.settings.limits.logprobs.is_some())
    }

    /// The prompt's text if it is echoed, and its probabilities into the lists.
    fn echo(&mut self, index: usize, logprobs: &[TokenLogprobs]) -> String {
        if !self.ask.echo {
            return String::new();
        }
        let tokenizer = self.loaded.tokenizer();
        let prompt = &self.ask.asks[index / self.ask.n].prompt;
        // The token that begins every text is no text.
        let shown = match prompt.split_first() {
            Some((first, rest)) if Some(*first) == tokenizer.bos() => rest,
            _ => prompt,
        };
        if self.wants_logprobs() {
            let skipped = prompt.len() - shown.len();
            if skipped == 0 {
                prompt.iter().take(1).for_each(|&id| self.lists[index].first(tokenizer, id));
            }
            logprobs.iter().for_each(|token| self.lists[index].push(tokenizer, token));
        }
        tokenizer.decode(shown, true)
    }

    fn logprob(&mut self, index: usize, token: &TokenLogprobs) {
        self.lists[index].push(self.loaded.tokenizer(), token);
    }

    fn take_logprobs(&mut self, index: usize) -> Value {
        if self.wants_logprobs() { self.lists[index].take() } else { Value::Null }
    }

    fn finish(&mut self, index: usize, summary: &Summary) {
        self.usage.add(index, self.ask.n, summary, 0);
        self.summary = summary.clone();
    }

    fn send(&mut self, index: usize, text: &str, finish: Option<&str>, out: &mut Frames) {
        let logprobs = self.take_logprobs(index);
        out.data(&self.chunk(json!([choice_value(index, text, logprobs, finish)])));
    }
}

impl Writer for Completion {
    fn start(&mut self, out: &mut Frames) {
        // With probabilities the echo comes when they are there.
        if self.ask.echo && !self.wants_logprobs() {
            for index in 0..self.lists.len() {
                let text = self.echo(index, &[]);
                self.send(index, &text, None, out);
            }
        }
    }

    fn event(&mut self, index: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::PromptLogprobs(logprobs) => {
                let text = self.echo(index, logprobs);
                self.send(index, &text, None, out);
            }
            Event::Text(event) => {
                event.logprobs.iter().for_each(|token| self.logprob(index, token));
                if !event.text.is_empty() || event.logprobs.is_some() {
                    self.send(index, &event.text, None, out);
                }
            }
            Event::Finished(summary) => {
                self.finish(index, summary);
                let reason = finish_reason(summary.stop, false);
                let mut chunk = self.chunk(json!([choice_value(index, "", Value::Null, Some(reason))]));
                chunk["timings"] = timings(summary);
                out.data(&chunk);
            }
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Frames) {
        if self.ask.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = self.usage.openai();
            out.data(&chunk);
        }
        out.text("data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        out.data(&error.body(Family::OpenAi, &self.id));
    }
}
