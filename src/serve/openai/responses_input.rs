//! The input of responses: a text, or items.

use serde::Deserialize;
use serde_json::Value;

use super::chat::allowed_tools;
use super::messages::{Content, InCall, InMessage, ToolFunction, called};
use crate::serve::body::read_at;
use crate::serve::error::ApiError;
use crate::serve::turn::ToolChoice;
use crate::text::Message;

/// A call of a tool.
#[derive(Deserialize)]
struct FunctionCall {
    call_id: String,
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// The result of a call.
#[derive(Deserialize)]
struct FunctionCallOutput {
    call_id: String,
    output: Content,
}

/// Thoughts of an earlier answer.
#[derive(Deserialize)]
struct Reasoning {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    summary: Option<Content>,
}

/// A tool. Those of other types than `function` have other fields.
#[derive(Deserialize)]
struct FlatTool {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
}

/// Adds the input to the messages of a conversation.
pub(super) fn add_input(all: &mut Vec<Message>, input: &Value) -> Result<(), ApiError> {
    let items = match input {
        Value::String(text) => {
            all.push(Message::new("user", text.as_str()));
            return Ok(());
        }
        Value::Array(items) if !items.is_empty() => items,
        Value::Array(_) => {
            return Err(ApiError::invalid("input", "input is empty: there is nothing to answer"));
        }
        _ => return Err(ApiError::invalid("input", "input must be a text or a list of items")),
    };
    items.iter().enumerate().try_for_each(|(i, item)| add_item(all, item, &format!("input[{i}]")))
}

fn add_item(all: &mut Vec<Message>, item: &Value, at: &str) -> Result<(), ApiError> {
    match item.get("type").map_or(Some("message"), Value::as_str) {
        Some("message") => {
            let message = read_at::<InMessage>(item.clone(), at)?.message(at)?;
            match begun(all).filter(|begun| begun.content.is_empty() && begun.tool_calls.is_empty()) {
                Some(begun) if message.role == "assistant" => begun.content = message.content,
                _ => all.push(message),
            }
        }
        Some("function_call") => {
            let call: FunctionCall = read_at(item.clone(), at)?;
            let call = InCall::new(call.call_id, call.name, call.arguments).value(at)?;
            answer(all).tool_calls.push(call);
        }
        Some("function_call_output") => {
            let result: FunctionCallOutput = read_at(item.clone(), at)?;
            let Some(name) = called(all, &result.call_id) else {
                let field = format!("{at}.call_id");
                let id = result.call_id.escape_debug();
                let message = format!("{field}: no function_call before it has the id `{id}`");
                return Err(ApiError::invalid(field, message));
            };
            let content = result.output.text(&format!("{at}.output"))?;
            let (name, tool_call_id) = (Some(name), Some(result.call_id));
            all.push(Message { name, tool_call_id, ..Message::new("tool", content) });
        }
        Some("reasoning") => {
            let reasoning: Reasoning = read_at(item.clone(), at)?;
            let thoughts = [reasoning.content, reasoning.summary].into_iter().flatten();
            // The summary of thoughts that are there says nothing more.
            if let Some(text) = thoughts.map(Content::thoughts).find(|text| !text.is_empty()) {
                all.push(Message { reasoning_content: Some(text), ..Message::new("assistant", "") });
            }
        }
        kind => {
            let kind = kind.unwrap_or_default().escape_debug();
            let field = format!("{at}.type");
            return Err(ApiError::invalid(&field, format!("{field} is `{kind}`, which is not supported")));
        }
    }
    Ok(())
}

/// The assistant's message that the last items made.
fn begun(all: &mut [Message]) -> Option<&mut Message> {
    all.last_mut().filter(|last| last.role == "assistant")
}

/// [`begun`], or a message that begins here.
fn answer(all: &mut Vec<Message>) -> &mut Message {
    if all.last().is_none_or(|last| last.role != "assistant") {
        all.push(Message::new("assistant", ""));
    }
    let at = all.len() - 1;
    &mut all[at]
}

/// The functions of the tools. Tools of other kinds, which Codex sends along, are skipped.
pub(super) fn functions(tools: &[Value]) -> Result<Vec<ToolFunction>, ApiError> {
    let mut functions = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => {
                let FlatTool { name, description, parameters } =
                    read_at(tool.clone(), &format!("tools[{i}]"))?;
                functions.push(ToolFunction { name, description, parameters });
            }
            Some(kind) => tracing::warn!("a tool of the type {kind:?} is skipped"),
            None => {
                let field = format!("tools[{i}].type");
                return Err(ApiError::invalid(&field, format!("{field} is missing")));
            }
        }
    }
    Ok(functions)
}

/// `tool_choice`.
pub(super) fn tool_choice(choice: Option<&Value>) -> Result<ToolChoice, ApiError> {
    let name = || choice?.get("name")?.as_str();
    let kind = || choice?.get("type")?.as_str();
    match choice.map(Value::as_str) {
        None | Some(Some("auto")) => Ok(ToolChoice::Auto),
        Some(Some("none")) => Ok(ToolChoice::None),
        Some(Some("required")) => Ok(ToolChoice::Required),
        Some(None) if kind() == Some("function") && name().is_some() => {
            Ok(ToolChoice::Named(name().unwrap_or_default().to_string()))
        }
        Some(None) if kind() == Some("allowed_tools") => {
            allowed_tools(choice.unwrap_or(&Value::Null), "tool_choice", "/name")
        }
        _ => Err(ApiError::invalid(
            "tool_choice",
            "tool_choice must be auto, none, required, allowed_tools or a function with its name",
        )),
    }
}
