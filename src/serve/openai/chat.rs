//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chat_ask::{ChatAsk, call_id, fingerprint};
use super::chat_stream::ChatStream;
use super::format;
use super::logprobs::chat_entry;
use super::messages::{InMessage, InTool, functions, messages, tool_value};
use crate::serve::apart::apart;
use crate::serve::app::{App, now};
use crate::serve::ask::{Client, submit};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::parts::{View, Whole, collect, thoughts_apart};
use crate::serve::prompt::Conversation;
use crate::serve::settings::{MOST_LOGPROBS, Settings, flag, whole};
use crate::serve::stream;
use crate::serve::turn::set_effort;
use crate::serve::usage::{Usage, finish_reason, timings};
use crate::text::{ToolCall, ToolChoice};

/// The most choices of a request.
const MOST_CHOICES: i64 = 32;

/// The fields with a structure of their own; numbers and flags are read by `settings`.
#[derive(Debug, Deserialize)]
struct Fields {
    messages: Vec<InMessage>,
    #[serde(default)]
    tools: Option<Vec<InTool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    #[serde(default)]
    reasoning_format: Option<String>,
    #[serde(default)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/v1/chat/completions", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let chat = {
        let (app, loaded) = (Arc::clone(&app), Arc::clone(&loaded));
        apart(move || read(&app, &loaded, &body)).await?
    };
    let replies = submit(&app, &loaded, &client, std::slice::from_ref(&chat.ask), chat.n)?;
    let id = app.unique("chatcmpl-");
    if chat.streams {
        return Ok(stream::respond(replies, ChatStream::new(loaded, id, &chat)));
    }
    let choices = collect(replies, chat.view).await?;
    Ok(Json(whole_answer(&loaded, &id, &chat, &choices)).into_response())
}

/// `POST /v1/chat/completions/input_tokens`: the number of tokens of the prompt.
pub(in crate::serve) async fn count(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    let n = apart(move || Ok(conversation_of(&body)?.encode(&loaded)?.len()));
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": n.await?})))
}

/// The conversation of a request.
pub(in crate::serve) fn conversation_of(body: &Body) -> Result<Conversation, ApiError> {
    conversation(body.read()?, body)
}

/// Reads a request and renders its prompt.
fn read(app: &App, loaded: &Loaded, body: &Body) -> Result<ChatAsk, ApiError> {
    let fields: Fields = body.read()?;
    let mut settings = Settings::read(&body.0, app, loaded)?;
    settings.limits.logprobs = logprobs(&body.0)?;
    let n = whole(&body.0, "n", 1, MOST_CHOICES)?.unwrap_or(1) as usize;
    let include_usage = fields.stream_options.unwrap_or_default().include_usage.unwrap_or(false);
    let thoughts_apart = match fields.reasoning_format.as_deref() {
        None => app.options.thoughts_apart,
        Some(format) => {
            thoughts_apart(format).map_err(|message| ApiError::invalid("reasoning_format", message))?
        }
    };
    let form = format::constraint(&body.0)?;
    let conversation = conversation(fields, body)?;
    let calls_apart = conversation.offers_tools();
    Ok(ChatAsk {
        ask: conversation.ask(loaded, settings, form)?,
        n,
        view: View { thoughts_apart, calls_apart },
        streams: flag(&body.0, "stream")?.unwrap_or(false),
        include_usage,
        return_progress: flag(&body.0, "return_progress")?.unwrap_or(false),
        timings_per_token: flag(&body.0, "timings_per_token")?.unwrap_or(false),
    })
}

/// `tool_choice`: `auto`, `none`, `required`, a tool by its name, or some of the tools.
fn tool_choice(choice: Option<&Value>) -> Result<ToolChoice, ApiError> {
    let name = |choice: &Value| choice.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
    match choice {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) if word == "auto" => Ok(ToolChoice::Auto),
        Some(Value::String(word)) if word == "none" => Ok(ToolChoice::None),
        Some(Value::String(word)) if word == "required" => Ok(ToolChoice::Required),
        Some(choice) if choice.get("type").is_some_and(|kind| kind == "allowed_tools") => {
            let allowed = choice.get("allowed_tools").unwrap_or(&Value::Null);
            allowed_tools(allowed, "tool_choice.allowed_tools", "/function/name")
        }
        Some(choice) => name(choice).map(ToolChoice::Named).ok_or_else(|| {
            let message = "tool_choice must be auto, none, required, an object of type allowed_tools, or \
                {\"type\": \"function\", \"function\": {\"name\": …}}";
            ApiError::invalid("tool_choice", message)
        }),
    }
}

/// The value of `allowed_tools`: a mode, and tools whose names are at this pointer.
pub(super) fn allowed_tools(allowed: &Value, path: &str, name: &str) -> Result<ToolChoice, ApiError> {
    let required = match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") => false,
        Some("required") => true,
        _ => {
            return Err(ApiError::invalid(
                format!("{path}.mode"),
                format!("{path}.mode must be auto or required"),
            ));
        }
    };
    let name = |tool: &Value| tool.pointer(name).and_then(Value::as_str).map(str::to_owned);
    let tools = allowed.get("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty());
    match tools.and_then(|tools| tools.iter().map(name).collect()) {
        Some(names) => Ok(ToolChoice::Among { names, required }),
        None => {
            let message = format!("{path}.tools must be a list of functions by their names");
            Err(ApiError::invalid(format!("{path}.tools"), message))
        }
    }
}

/// The conversation of a request.
fn conversation(fields: Fields, body: &Body) -> Result<Conversation, ApiError> {
    let messages = messages(fields.messages)?;
    let tools = functions(fields.tools.unwrap_or_default())?;
    let choice = tool_choice(fields.tool_choice.as_ref())?;
    if tools.is_empty() && choice.requires_call() {
        return Err(ApiError::invalid("tool_choice", "tool_choice asks for a call, but there are no tools"));
    }
    let mut variables = fields.chat_template_kwargs.unwrap_or_default();
    if let Some(effort) = fields.reasoning_effort {
        set_effort(&mut variables, effort, "reasoning_effort")?;
    }
    let last = messages.last();
    let ends_with_assistant =
        last.is_some_and(|message| message.role == "assistant" && message.tool_calls.is_empty());
    let continues = flag(&body.0, "continue_final_message")?;
    let opens = flag(&body.0, "add_generation_prompt")?;
    if continues == Some(true) && opens == Some(true) {
        let message = "continue_final_message and add_generation_prompt exclude each other";
        return Err(ApiError::invalid("continue_final_message", message));
    }
    if continues == Some(true) && !ends_with_assistant {
        let message = "continue_final_message: the last message is not an assistant's text";
        return Err(ApiError::invalid("continue_final_message", message));
    }
    // As in llama-server, an assistant's message at the end is the beginning of the answer.
    let continues = ends_with_assistant && continues.unwrap_or(opens != Some(true));
    Ok(Conversation {
        messages,
        tools: tools.iter().map(tool_value).collect(),
        choice,
        one_call: flag(&body.0, "parallel_tool_calls")? == Some(false),
        variables,
        continues,
        opens_answer: opens.unwrap_or(!continues),
    })
}

/// `logprobs` and `top_logprobs`.
fn logprobs(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let wanted = flag(fields, "logprobs")?;
    match whole(fields, "top_logprobs", 0, MOST_LOGPROBS as i64)? {
        Some(_) if wanted == Some(false) => {
            Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true"))
        }
        Some(n) => Ok(Some(n as usize)),
        None => Ok(wanted.filter(|wanted| *wanted).map(|_| 0)),
    }
}

/// The whole answer.
fn whole_answer(loaded: &Loaded, id: &str, chat: &ChatAsk, choices: &[Whole]) -> Value {
    let mut usage = Usage::default();
    let mut list = Vec::with_capacity(choices.len());
    for (index, choice) in choices.iter().enumerate() {
        usage.add(index, chat.n, &choice.summary, choice.n_thoughts);
        let logprobs = chat.ask.settings.limits.logprobs.map(|_| {
            let content = choice.logprobs.iter().map(|token| chat_entry(loaded.tokenizer(), token));
            json!({"content": content.collect::<Vec<_>>(), "refusal": null})
        });
        list.push(json!({
            "index": index,
            "message": message(id, index, choice),
            "logprobs": logprobs,
            "finish_reason": finish_reason(choice.summary.stop, !choice.calls.is_empty()),
        }));
    }
    let mut answer = json!({
        "id": id,
        "object": "chat.completion",
        "created": now(),
        "model": loaded.names.id,
        "system_fingerprint": fingerprint(),
        "choices": list,
        "usage": usage.openai(),
    });
    if let Some(first) = choices.first() {
        answer["timings"] = timings(&first.summary);
    }
    answer
}

fn message(id: &str, index: usize, choice: &Whole) -> Value {
    let mut message = json!({"role": "assistant"});
    let is_calls_only = choice.text.is_empty() && !choice.calls.is_empty();
    message["content"] = if is_calls_only { Value::Null } else { choice.text.as_str().into() };
    message["refusal"] = Value::Null;
    if !choice.thoughts.is_empty() {
        message["reasoning_content"] = choice.thoughts.as_str().into();
    }
    if !choice.calls.is_empty() {
        let calls = choice.calls.iter().zip(&choice.arguments).enumerate();
        let value = |(n, (call, arguments)): (usize, (&ToolCall, &String))| {
            json!({
                "id": call_id(id, index, n, call.id.as_deref()),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            })
        };
        message["tool_calls"] = calls.map(value).collect();
    }
    message
}
