//! `POST /completion` and `/completions`: plain text continued, in llama-server's own form.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::completion_answer::CompletionAnswer;
use super::completion_ask::CompletionAsk;
use super::completion_settings;
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Ask, Client, submit};
use crate::serve::body::{Body, read as read_value};
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::openai::completions::prompts;
use crate::serve::openai::format;
use crate::serve::parts::{View, collect};
use crate::serve::settings::{MOST_LOGPROBS, Settings, flag, given, whole};
use crate::serve::stream;

/// The most answers of a request.
const MOST_ANSWERS: usize = 256;

/// The most choices of a prompt.
const MOST_CHOICES: i64 = 32;

/// The most names in `response_fields`.
const MOST_FIELDS: usize = 256;

/// An answer without parts.
const PLAIN: View = View { thoughts_apart: false, calls_apart: false };

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/completion", ..client };
    respond(app, client, body, |loaded, body| match given(&body.0, "prompt") {
        Some(prompt) => prompts(prompt, loaded.tokenizer(), "prompt"),
        None => Err(ApiError::invalid("prompt", "prompt is missing")),
    })
    .await
}

/// Answers the prompts that `prompts` reads.
pub(super) async fn respond(
    app: Arc<App>,
    client: Client,
    body: Body,
    prompts: impl FnOnce(&Loaded, &Body) -> Result<Vec<Vec<u32>>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    let completion = {
        let (app, loaded) = (Arc::clone(&app), Arc::clone(&loaded));
        apart(move || read(&app, &loaded, &body, prompts(&loaded, &body)?)).await?
    };
    let replies = submit(&app, &loaded, &client, &completion.asks, completion.n)?;
    let streams = completion.streams;
    let mut writer = CompletionAnswer::new(loaded, completion);
    if streams {
        return Ok(stream::respond(replies, writer));
    }
    let choices = collect(replies, PLAIN).await?.into_iter().enumerate();
    let mut answers: Vec<Value> = choices.map(|(index, whole)| writer.whole(index, &whole)).collect();
    let answer = if answers.len() == 1 { answers.remove(0) } else { answers.into() };
    Ok(Json(answer).into_response())
}

fn read(app: &App, loaded: &Loaded, body: &Body, prompts: Vec<Vec<u32>>) -> Result<CompletionAsk, ApiError> {
    let fields = &body.0;
    let mut settings = Settings::read(fields, app, loaded)?;
    let n_probs = whole(fields, "n_probs", 0, MOST_LOGPROBS as i64)?.unwrap_or(0) as usize;
    settings.limits.logprobs = Some(n_probs).filter(|&n| n > 0);
    let n = match whole(fields, "n_cmpl", 1, MOST_CHOICES)? {
        Some(n) => n,
        None => whole(fields, "n", 1, MOST_CHOICES)?.unwrap_or(1),
    } as usize;
    if prompts.len() * n > MOST_ANSWERS {
        let message = format!("{} prompts with n = {n}: {MOST_ANSWERS} answers are the most", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let streams = flag(fields, "stream")?.unwrap_or(false);
    let constraint = match format::constraint(fields)? {
        Some((source, name)) => Some(loaded.constraint(&source, name)?),
        None => None,
    };
    let shown = completion_settings::of(&settings, streams);
    let ask = |prompt| Ask { constraint: constraint.clone(), ..Ask::plain(prompt, settings.clone()) };
    Ok(CompletionAsk {
        asks: prompts.into_iter().map(ask).collect(),
        n,
        streams,
        fields: response_fields(body)?,
        return_tokens: flag(fields, "return_tokens")?.unwrap_or(false),
        return_progress: flag(fields, "return_progress")?.unwrap_or(false),
        timings_per_token: flag(fields, "timings_per_token")?.unwrap_or(false),
        settings: shown,
    })
}

fn response_fields(body: &Body) -> Result<Vec<String>, ApiError> {
    const NAME: &str = "response_fields";
    let Some(value) = given(&body.0, NAME) else { return Ok(Vec::new()) };
    match read_value::<Vec<String>>(value.clone()) {
        Ok(names) if names.len() <= MOST_FIELDS => Ok(names),
        _ => Err(ApiError::invalid(NAME, format!("{NAME} must be a list of at most {MOST_FIELDS} names"))),
    }
}
