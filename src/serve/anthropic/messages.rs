//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::conversation::{Content, InChoice, InMessage, InTool, functions, messages};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Ask, Client, submit};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::{Loaded, Source};
use crate::serve::parts::View;
use crate::serve::settings::{Settings, flag, given, whole};
use crate::serve::stream;
use crate::serve::turn::{ToolChoice, Turn, set_effort};

/// The fields with a structure of their own; numbers and flags are read by `settings`.
#[derive(Debug, Deserialize)]
struct Fields {
    messages: Vec<InMessage>,
    #[serde(default)]
    system: Option<Content>,
    #[serde(default)]
    tools: Option<Vec<InTool>>,
    #[serde(default)]
    tool_choice: Option<InChoice>,
    #[serde(default)]
    thinking: Option<Thinking>,
    #[serde(default)]
    output_config: Option<OutputConfig>,
    /// The older name of `output_config.format`.
    #[serde(default)]
    output_format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    budget_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    #[serde(default)]
    effort: Option<String>,
    #[serde(default)]
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    schema: Option<Value>,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/v1/messages", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let streams = flag(&body.0, "stream")?.unwrap_or(false);
    let (ask, view) = {
        let (app, loaded) = (Arc::clone(&app), Arc::clone(&loaded));
        apart(move || read(&app, &loaded, &body)).await?
    };
    let replies = submit(&app, &loaded, &client, std::slice::from_ref(&ask), 1)?;
    let (id, model) = (app.unique("msg_"), loaded.names.id.clone());
    let mut answer = Answer::new(id, model, view, ask.prompt.len(), client.request_id);
    if streams {
        return Ok(stream::respond(replies, answer));
    }
    stream::drain(replies, &mut answer).await?;
    Ok(Json(answer.message()).into_response())
}

pub(in crate::serve) async fn count(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    let n = apart(move || turn(&body)?.count(&loaded)).await?;
    Ok(Json(json!({ "input_tokens": n })))
}

fn read(app: &App, loaded: &Loaded, body: &Body) -> Result<(Ask, View), ApiError> {
    if whole(&body.0, "max_tokens", 1, i64::from(i32::MAX))?.is_none() {
        return Err(ApiError::invalid("max_tokens", "max_tokens is missing"));
    }
    let mut settings = Settings::read(&body.0, app, loaded)?;
    if let Some(budget) = thinking_budget(&body.0)? {
        settings.limits.max_thoughts = Some(budget);
    }
    turn(body)?.ask(loaded, settings)
}

fn turn(body: &Body) -> Result<Turn, ApiError> {
    refuse_unsupported(&body.0)?;
    let fields: Fields = body.read()?;
    let messages = messages(fields.system, fields.messages)?;
    let last = messages.last();
    let continues = last.is_some_and(|last| last.role == "assistant" && last.tool_calls.is_empty());
    if continues && last.is_some_and(|last| last.reasoning_content.is_some()) {
        let message = "messages: an answer that is begun cannot have thinking; end with a user's message";
        return Err(ApiError::invalid("messages", message));
    }
    let (effort, format) = fields.output_config.map_or((None, None), |config| (config.effort, config.format));
    let one_call = fields.tool_choice.as_ref().and_then(|choice| choice.disable_parallel_tool_use);
    let mut variables = Map::new();
    if let Some(thinking) = fields.thinking {
        variables.insert("enable_thinking".into(), thinking.is_on(&body.0)?.into());
    }
    if let Some(effort) = effort {
        set_effort(&mut variables, effort, "output_config.effort")?;
    }
    let source = match (format, fields.output_format) {
        (Some(format), _) => Some((format.source("output_config.format")?, "output_config.format")),
        (None, Some(format)) => Some((format.source("output_format")?, "output_format")),
        (None, None) => None,
    };
    Ok(Turn {
        messages,
        tools: functions(fields.tools.unwrap_or_default())?,
        choice: fields.tool_choice.map_or(Ok(ToolChoice::Auto), |choice| choice.choice())?,
        one_call: one_call == Some(true),
        variables,
        continues,
        source,
    })
}

/// Refuses what would change the answer and does not exist here.
fn refuse_unsupported(fields: &Map<String, Value>) -> Result<(), ApiError> {
    for name in ["container", "mcp_servers"] {
        if given(fields, name).is_some_and(|value| *value != json!([])) {
            return Err(ApiError::unsupported(name, "leave it out"));
        }
    }
    let edits = given(fields, "context_management").and_then(|edits| edits.get("edits")?.as_array());
    for (i, edit) in edits.into_iter().flatten().enumerate() {
        // Templates leave out the thoughts of earlier turns by themselves.
        let kind = edit.get("type").and_then(Value::as_str).unwrap_or_default();
        if !kind.starts_with("clear_thinking") {
            let path = format!("context_management.edits[{i}]");
            return Err(ApiError::unsupported(&path, "leave it out"));
        }
    }
    Ok(())
}

/// `thinking.budget_tokens` of thinking that is on.
fn thinking_budget(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let Some(Value::Object(thinking)) = given(fields, "thinking") else { return Ok(None) };
    let budget = whole(thinking, "budget_tokens", 0, i64::from(i32::MAX))
        .map_err(|error| ApiError { param: Some("thinking.budget_tokens".into()), ..error })?;
    let is_on = thinking.get("type").is_some_and(|kind| kind != "disabled");
    Ok(budget.filter(|_| is_on).and_then(|budget| usize::try_from(budget).ok()))
}

impl Thinking {
    fn is_on(&self, fields: &Map<String, Value>) -> Result<bool, ApiError> {
        let max_tokens = given(fields, "max_tokens").and_then(Value::as_u64);
        if self.budget_tokens.zip(max_tokens).is_some_and(|(budget, most)| budget >= most) {
            let path = "thinking.budget_tokens";
            return Err(ApiError::invalid(path, format!("{path} must be less than max_tokens")));
        }
        match self.kind.as_str() {
            "enabled" | "adaptive" => Ok(true),
            "disabled" => Ok(false),
            _ => {
                let path = "thinking.type";
                Err(ApiError::invalid(path, format!("{path} must be enabled, adaptive or disabled")))
            }
        }
    }
}

impl Format {
    fn source(self, path: &str) -> Result<Source, ApiError> {
        match (self.kind.as_str(), self.schema) {
            ("json_schema", Some(schema)) => Ok(Source::Schema(schema.to_string())),
            ("json_schema", None) => {
                Err(ApiError::invalid(format!("{path}.schema"), format!("{path}.schema is missing")))
            }
            _ => Err(ApiError::invalid(format!("{path}.type"), format!("{path}.type must be json_schema"))),
        }
    }
}
