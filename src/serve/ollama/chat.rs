//! `POST /api/chat`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::fields::{format, settings, streams, think};
use super::lines::{Form, LinesAsk, bare_line, respond};
use super::messages::{InMessage, messages};
use super::{named, unloads};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::Client;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::openai::messages::{InTool, functions, tool_value};
use crate::serve::parts::View;
use crate::serve::prompt::Conversation;
use crate::serve::settings::given;

#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(default)]
    messages: Option<Vec<InMessage>>,
    #[serde(default)]
    tools: Option<Vec<InTool>>,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/api/chat", ..client };
    if let Some(name) = unloads(&app, &body, is_empty(&body)).await? {
        return Ok(bare_line(&name, &Form::Chat, "unload"));
    }
    let named = named(&app, &body).await?;
    let asked = {
        let (app, loaded, name) = (Arc::clone(&app), Arc::clone(&named.loaded), named.name.clone());
        apart(move || read(&app, &loaded, &name, &body)).await?
    };
    match asked {
        Some(ask) => respond(&app, named, &client, ask).await,
        None => Ok(bare_line(&named.name, &Form::Chat, "load")),
    }
}

/// True for a request without messages.
fn is_empty(body: &Body) -> bool {
    given(&body.0, "messages").is_none_or(|messages| messages.as_array().is_some_and(Vec::is_empty))
}

/// Reads a request. `None`: it only asks to load the model.
fn read(app: &App, loaded: &Loaded, name: &str, body: &Body) -> Result<Option<LinesAsk>, ApiError> {
    let fields: Fields = body.read()?;
    let settings = settings(&body.0, app, loaded)?;
    let messages = messages(fields.messages.unwrap_or_default())?;
    let tools = functions(fields.tools.unwrap_or_default())?;
    let variables = think(&body.0, loaded, name)?;
    let source = format(&body.0)?;
    let streams = streams(&body.0)?;
    let Some(last) = messages.last() else { return Ok(None) };
    // An assistant's message at the end is the beginning of the answer.
    let continues = last.role == "assistant" && last.tool_calls.is_empty();
    let view = View { thoughts_apart: true, calls_apart: !tools.is_empty() };
    let tools: Vec<Value> = tools.iter().map(tool_value).collect();
    let opens_answer = !continues;
    let conversation =
        Conversation { messages, tools, variables, continues, opens_answer, ..Conversation::default() };
    let ask = conversation.ask(loaded, settings, source.map(|source| (source, "format")))?;
    Ok(Some(LinesAsk { ask, view, streams, form: Form::Chat }))
}
