//! Conversations in OpenAI's form.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::serve::error::{ApiError, Kind};
use crate::text::Message;

/// The most tools of a request.
pub(in crate::serve) const MOST_TOOLS: usize = 128;

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct InMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default, alias = "reasoning")]
    reasoning_content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<InCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
pub(super) struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(in crate::serve) struct InCall {
    #[serde(default)]
    id: Option<String>,
    function: InFunction,
}

#[derive(Debug, Deserialize)]
struct InFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// A tool as clients send it.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::serve) struct InTool {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    pub function: Option<ToolFunction>,
}

/// A tool's function.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::serve) struct ToolFunction {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    #[serde(default)]
    pub parameters: Option<Value>,
}

impl Content {
    /// The text of all parts, one per line as llama-server joins them.
    pub fn text(self, at: &str) -> Result<String, ApiError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (i, part) in parts.into_iter().enumerate() {
            let path = format!("{at}[{i}]");
            match part.kind.as_str() {
                "text" | "input_text" | "output_text" => texts.push(
                    part.text.ok_or_else(|| ApiError::invalid(&path, format!("{path}.text is missing")))?,
                ),
                "refusal" => texts.extend(part.refusal),
                "image_url" | "input_image" | "input_audio" | "file" | "input_file" => {
                    let message =
                        format!("{path}: {} is not supported: this server reads text alone", part.kind);
                    return Err(ApiError { param: Some(path), ..ApiError::new(Kind::NotSupported, message) });
                }
                other => {
                    return Err(ApiError::invalid(
                        &path,
                        format!("{path}.type is `{}`; it must be text", other.escape_debug()),
                    ));
                }
            }
        }
        Ok(texts.join("\n"))
    }

    /// The text of all parts, whatever their types.
    pub fn thoughts(self) -> String {
        match self {
            Content::Text(text) => text,
            Content::Parts(parts) => {
                let texts: Vec<String> = parts.into_iter().filter_map(|part| part.text).collect();
                texts.join("\n")
            }
        }
    }
}

impl InMessage {
    /// The message for a template.
    pub fn message(self, at: &str) -> Result<Message, ApiError> {
        // Templates know `system` for what newer clients call `developer`, and `tool` for `function`.
        let role = match self.role.as_str() {
            "developer" => "system",
            "function" => "tool",
            role @ ("system" | "user" | "assistant" | "tool") => role,
            other => {
                let message = format!(
                    "{at}.role is `{}`; it must be system, developer, user, assistant, tool or function",
                    other.escape_debug()
                );
                return Err(ApiError::invalid(format!("{at}.role"), message));
            }
        };
        let calls = self.tool_calls.unwrap_or_default();
        let content = match self.content {
            Some(content) => content.text(&format!("{at}.content"))?,
            None if role == "assistant" => self.refusal.unwrap_or_default(),
            None => {
                return Err(ApiError::invalid(format!("{at}.content"), format!("{at}.content is missing")));
            }
        };
        let calls = calls.into_iter().enumerate();
        let calls = calls.map(|(i, call)| call.value(&format!("{at}.tool_calls[{i}]")));
        Ok(Message {
            reasoning_content: self.reasoning_content.filter(|text| !text.is_empty()),
            tool_calls: calls.collect::<Result<_, _>>()?,
            name: self.name,
            tool_call_id: self.tool_call_id,
            ..Message::new(role, content)
        })
    }
}

impl InCall {
    pub fn new(id: String, name: String, arguments: Value) -> InCall {
        InCall { id: Some(id), function: InFunction { name, arguments } }
    }

    /// The call with its arguments as a value, which templates expect.
    pub fn value(self, at: &str) -> Result<Value, ApiError> {
        let arguments = match self.function.arguments {
            Value::Null => json!({}),
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => serde_json::from_str(&text).map_err(|error| {
                let path = format!("{at}.function.arguments");
                ApiError::invalid(&path, format!("{path} is not JSON: {error}"))
            })?,
            other => other,
        };
        let mut call = Map::new();
        call.extend(self.id.map(|id| ("id".to_string(), id.into())));
        call.insert("type".into(), "function".into());
        call.insert("function".into(), json!({"name": self.function.name, "arguments": arguments}));
        Ok(call.into())
    }
}

/// The messages for a template. The names of tools that results lack come from the calls that they answer.
pub(super) fn messages(list: Vec<InMessage>) -> Result<Vec<Message>, ApiError> {
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let mut all: Vec<Message> = Vec::with_capacity(list.len());
    for (i, message) in list.into_iter().enumerate() {
        let mut message = message.message(&format!("messages[{i}]"))?;
        if message.role == "tool" && message.name.is_none() {
            message.name = message.tool_call_id.as_deref().and_then(|id| called(&all, id));
        }
        all.push(message);
    }
    Ok(all)
}

/// The name of the tool that the call with this id calls.
pub(in crate::serve) fn called(messages: &[Message], id: &str) -> Option<String> {
    let mut calls = messages.iter().rev().flat_map(|message| &message.tool_calls);
    let call = calls.find(|call| call.get("id").and_then(Value::as_str) == Some(id))?;
    call.pointer("/function/name")?.as_str().map(str::to_owned)
}

/// The functions of the tools. Tools of other kinds, which some clients send along, are skipped.
pub(in crate::serve) fn functions(tools: Vec<InTool>) -> Result<Vec<ToolFunction>, ApiError> {
    if tools.len() > MOST_TOOLS {
        let message = format!("tools has {} entries; {MOST_TOOLS} is the most", tools.len());
        return Err(ApiError::invalid("tools", message));
    }
    let mut functions = Vec::new();
    for (i, tool) in tools.into_iter().enumerate() {
        match tool.function {
            Some(function) if tool.kind == "function" => functions.push(function),
            None if tool.kind == "function" => {
                let path = format!("tools[{i}].function");
                return Err(ApiError::invalid(&path, format!("{path} is missing")));
            }
            _ => tracing::warn!("a tool of the type {:?} is skipped", tool.kind),
        }
    }
    Ok(functions)
}

/// A tool in the form that templates expect.
pub(in crate::serve) fn tool_value(function: &ToolFunction) -> Value {
    let mut inner = Map::new();
    inner.insert("name".into(), function.name.as_str().into());
    inner.insert("description".into(), function.description.as_deref().unwrap_or_default().into());
    let empty = || json!({"type": "object", "properties": {}});
    inner.insert("parameters".into(), function.parameters.clone().unwrap_or_else(empty));
    json!({"type": "function", "function": inner})
}
