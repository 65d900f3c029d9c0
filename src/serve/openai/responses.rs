//! `POST /v1/responses`, `POST /v1/responses/input_tokens`, `GET` and `DELETE /v1/responses/{id}`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::format;
use super::responses_answer::{Answer, Keep};
use super::responses_input::{add_input, functions, tool_choice};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Ask, Client, submit};
use crate::serve::body::Body;
use crate::serve::error::{ApiError, Kind};
use crate::serve::models::{Loaded, Source};
use crate::serve::parts::View;
use crate::serve::settings::{Settings, flag, given, whole};
use crate::serve::stream;
use crate::serve::turn::{Turn, set_effort};
use crate::text::Message;

/// Fields that would change the answer and are not supported, with the values that ask for nothing.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("background", "false"),
    ("conversation", "null"),
    ("prompt", "null"),
    ("top_logprobs", "0"),
    ("truncation", "\"disabled\""),
];

/// Fields that the response repeats, with their values where the request has none.
const REPEATED: &[(&str, &str)] = &[
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("safety_identifier", "null"),
    ("temperature", "null"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "null"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// A request's task.
struct Asked {
    ask: Ask,
    view: View,
    /// The conversation with the input, if the response is to be kept.
    messages: Option<Vec<Message>>,
    /// The fields that the response repeats.
    repeated: Map<String, Value>,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/v1/responses", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let streams = flag(&body.0, "stream")?.unwrap_or(false);
    let asked = {
        let (app, loaded) = (Arc::clone(&app), Arc::clone(&loaded));
        apart(move || read(&app, &loaded, client.key, &body)).await?
    };
    let replies = submit(&app, &loaded, &client, std::slice::from_ref(&asked.ask), 1)?;
    let keep = asked.messages.map(|messages| Keep { app: Arc::clone(&app), key: client.key, messages });
    let mut answer = Answer::new(app.unique("resp_"), asked.repeated, asked.view, keep);
    if streams {
        return Ok(stream::respond(replies, answer));
    }
    stream::drain(replies, &mut answer).await?;
    Ok(Json(answer.response()).into_response())
}

/// The number of tokens of the prompt.
pub(in crate::serve) async fn count(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    let n = apart(move || turn(&app, client.key, &body)?.0.count(&loaded)).await?;
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": n})))
}

pub(in crate::serve) async fn get(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    match app.responses.get(client.key, &id) {
        Some(kept) => Ok(Json(kept.response.clone())),
        None => Err(unknown(&id)),
    }
}

pub(in crate::serve) async fn delete(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    match app.responses.forget(client.key, &id) {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> ApiError {
    let id = id.escape_debug();
    ApiError::new(
        Kind::NotFound,
        format!("there is no response `{id}`: it was deleted, displaced or never kept"),
    )
}

fn read(app: &App, loaded: &Loaded, key: Option<usize>, body: &Body) -> Result<Asked, ApiError> {
    let fields = &body.0;
    whole(fields, "max_output_tokens", 1, i64::from(i32::MAX))?;
    let settings = Settings::read(fields, app, loaded)?;
    let store = flag(fields, "store")?.unwrap_or(true);
    let (turn, n_instructions) = turn(app, key, body)?;
    let messages = store.then(|| turn.messages[n_instructions..].to_vec());
    let (ask, view) = turn.ask(loaded, settings)?;
    let mut repeated = repeated(fields);
    repeated.insert("model".into(), loaded.names.id.as_str().into());
    repeated.insert("store".into(), store.into());
    Ok(Asked { ask, view, messages, repeated })
}

/// The question, and the number of messages before the conversation.
fn turn(app: &App, key: Option<usize>, body: &Body) -> Result<(Turn, usize), ApiError> {
    let fields = &body.0;
    refuse_unsupported(fields)?;
    let mut messages = Vec::new();
    messages.extend(text(fields, "instructions")?.map(|text| Message::new("system", text)));
    let n_instructions = messages.len();
    let previous = text(fields, "previous_response_id")?;
    if let Some(id) = previous {
        let kept = app.responses.get(key, id).ok_or_else(|| ApiError {
            kind: Kind::Invalid,
            param: Some("previous_response_id".into()),
            ..unknown(id)
        })?;
        messages.extend(kept.messages.iter().cloned());
    }
    match given(fields, "input") {
        Some(input) => add_input(&mut messages, input)?,
        None => return Err(ApiError::invalid("input", "input is missing")),
    }
    let tools = match given(fields, "tools") {
        None => &[][..],
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(ApiError::invalid("tools", "tools must be a list")),
    };
    let parallel = flag(fields, "parallel_tool_calls")?.unwrap_or(true);
    let mut variables = Map::new();
    if let Some(effort) =
        given(fields, "reasoning").and_then(|reasoning| given(reasoning.as_object()?, "effort"))
    {
        set_effort(&mut variables, effort.as_str().unwrap_or_default().into(), "reasoning.effort")?;
    }
    let turn = Turn {
        messages,
        tools: functions(tools)?,
        choice: tool_choice(given(fields, "tool_choice"))?,
        one_call: !parallel,
        variables,
        continues: false,
        source: source(fields)?,
    };
    Ok((turn, n_instructions))
}

/// The constraint of `text.format`, or of one of the fields that chats have too.
fn source(fields: &Map<String, Value>) -> Result<Option<(Source, &'static str)>, ApiError> {
    const NAME: &str = "text.format";
    let own = match given(fields, "text").and_then(|text| given(text.as_object()?, "format")) {
        Some(format) => format::response_format(format, NAME)?,
        None => None,
    };
    match (own, format::constraint(fields)?) {
        (Some(_), Some((_, other))) => {
            Err(ApiError::invalid(other, format!("{NAME} and {other} exclude each other")))
        }
        (own, other) => Ok(own.map(|own| (own, NAME)).or(other)),
    }
}

/// A text that may be missing.
fn text<'f>(fields: &'f Map<String, Value>, name: &str) -> Result<Option<&'f str>, ApiError> {
    match given(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid(name, format!("{name} must be a text"))),
    }
}

fn refuse_unsupported(fields: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, neutral) in UNSUPPORTED {
        let text = given(fields, name).map(Value::to_string);
        if text.is_some_and(|text| text != *neutral) {
            return Err(ApiError::unsupported(name, "leave it out"));
        }
    }
    let include = given(fields, "include").and_then(Value::as_array);
    // Thoughts come as text, so that clients which ask for encrypted ones have what they need; other things that can be
    // included belong to tools that do not exist here.
    if include.is_some_and(|names| names.iter().any(|name| name == "message.output_text.logprobs")) {
        return Err(ApiError::unsupported("include", "leave message.output_text.logprobs out"));
    }
    Ok(())
}

/// The fields that the response repeats.
fn repeated(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut repeated = Map::new();
    for (name, otherwise) in REPEATED {
        let otherwise = || serde_json::from_str(otherwise).unwrap_or_default();
        repeated.insert((*name).into(), given(fields, name).cloned().unwrap_or_else(otherwise));
    }
    let inner = |outer: &str, name: &str| given(fields, outer).and_then(|outer| outer.get(name)).cloned();
    repeated.insert("reasoning".into(), json!({"effort": inner("reasoning", "effort"), "summary": null}));
    let format = inner("text", "format").unwrap_or_else(|| json!({"type": "text"}));
    repeated.insert("text".into(), json!({ "format": format }));
    repeated
}
