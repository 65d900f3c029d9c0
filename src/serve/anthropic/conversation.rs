//! Conversations in Anthropic's form.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::serve::error::{ApiError, Kind};
use crate::serve::openai::messages::{ToolFunction, called};
use crate::serve::turn::ToolChoice;
use crate::text::Message;

/// Lines of system prompts that begin so are no text for the model. Claude Code sends a line for billing which changes with
/// every request, so that no two of them would share a prefix.
const HEADER: &str = "x-anthropic-";

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct InMessage {
    role: String,
    content: Content,
}

/// A text, or blocks.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block of any type: each has some of the fields.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Map<String, Value>>,
    #[serde(default)]
    tool_use_id: Option<String>,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    is_error: Option<bool>,
}

/// A tool as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct InTool {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    input_schema: Option<Value>,
}

/// `tool_choice`.
#[derive(Debug, Deserialize)]
pub(super) struct InChoice {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    pub disable_parallel_tool_use: Option<bool>,
}

impl Content {
    /// The blocks with their paths; a text is one block.
    fn blocks(self, at: &str) -> impl Iterator<Item = (String, Block)> + use<> {
        let blocks = match self {
            Content::Text(text) => vec![Block::text(text)],
            Content::Blocks(blocks) => blocks,
        };
        let at = at.to_string();
        blocks.into_iter().enumerate().map(move |(i, block)| (format!("{at}[{i}]"), block))
    }

    /// The texts of blocks that are texts.
    fn texts(self, at: &str) -> Result<Vec<String>, ApiError> {
        self.blocks(at)
            .map(|(path, block)| match block.kind.as_str() {
                "text" => required(block.text, &path, "text"),
                _ => Err(block.refused(&path)),
            })
            .collect()
    }
}

impl Block {
    fn text(text: String) -> Block {
        Block {
            kind: "text".into(),
            text: Some(text),
            thinking: None,
            id: None,
            name: None,
            input: None,
            tool_use_id: None,
            content: None,
            is_error: None,
        }
    }

    /// The error that the block cannot be here.
    fn refused(&self, path: &str) -> ApiError {
        let kind = self.kind.escape_debug();
        match self.kind.as_str() {
            "image" | "document" => {
                let message = format!("{path}: {kind} is not supported: this server reads text alone");
                ApiError { param: Some(path.into()), ..ApiError::new(Kind::NotSupported, message) }
            }
            "redacted_thinking" => {
                ApiError::invalid(path, format!("{path}: {kind} is not readable here; leave the block out"))
            }
            _ => ApiError::invalid(path, format!("{path}.type is `{kind}`, which cannot be here")),
        }
    }

    /// A call of a tool in the form of templates.
    fn call(self, path: &str) -> Result<Value, ApiError> {
        let id = required(self.id, path, "id")?;
        let name = required(self.name, path, "name")?;
        let arguments = required(self.input, path, "input")?;
        Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
    }

    /// The result of a tool that one of the messages calls.
    fn result(self, path: &str, messages: &[Message]) -> Result<Message, ApiError> {
        let id = required(self.tool_use_id, path, "tool_use_id")?;
        let Some(name) = called(messages, &id) else {
            let field = format!("{path}.tool_use_id");
            let message = format!("{field}: no tool_use before it has the id `{}`", id.escape_debug());
            return Err(ApiError::invalid(field, message));
        };
        let texts = match self.content {
            Some(content) => content.texts(&format!("{path}.content"))?,
            None => Vec::new(),
        };
        // Templates have no place for the flag.
        let mark = if self.is_error == Some(true) { "Error: " } else { "" };
        let content = format!("{mark}{}", texts.join("\n"));
        Ok(Message { name: Some(name), tool_call_id: Some(id), ..Message::new("tool", content) })
    }
}

/// The value of a field that a block of this type must have.
fn required<T>(value: Option<T>, path: &str, field: &str) -> Result<T, ApiError> {
    let path = format!("{path}.{field}");
    value.ok_or_else(|| ApiError::invalid(&path, format!("{path} is missing")))
}

/// The messages for a template: the system prompt, then the conversation, in which messages of one role that follow each
/// other are one.
pub(super) fn messages(system: Option<Content>, list: Vec<InMessage>) -> Result<Vec<Message>, ApiError> {
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let mut all = Vec::with_capacity(list.len() + 1);
    if let Some(text) = system.map(system_text).transpose()?.flatten() {
        all.push(Message::new("system", text));
    }
    for (i, message) in list.into_iter().enumerate() {
        let blocks = message.content.blocks(&format!("messages[{i}].content"));
        match message.role.as_str() {
            "user" => user(&mut all, blocks)?,
            "assistant" => assistant(&mut all, blocks)?,
            other => {
                let path = format!("messages[{i}].role");
                let other = other.escape_debug();
                let message = format!("{path} is `{other}`; it must be user or assistant");
                return Err(ApiError::invalid(path, message));
            }
        }
    }
    Ok(all)
}

/// The text of a system prompt without headers.
fn system_text(system: Content) -> Result<Option<String>, ApiError> {
    let mut texts = Vec::new();
    for text in system.texts("system")? {
        let lines: Vec<&str> = text.split('\n').filter(|line| !line.starts_with(HEADER)).collect();
        let text = lines.join("\n");
        texts.extend(Some(text).filter(|text| !text.trim().is_empty()));
    }
    Ok(Some(texts.join("\n")).filter(|text| !text.is_empty()))
}

/// Adds a user's blocks: texts are the user's message, results are messages of tools.
fn user(all: &mut Vec<Message>, blocks: impl Iterator<Item = (String, Block)>) -> Result<(), ApiError> {
    for (path, block) in blocks {
        match block.kind.as_str() {
            "text" => {
                let text = required(block.text, &path, "text")?;
                join(&mut last(all, "user").content, &text);
            }
            "tool_result" => {
                let message = block.result(&path, all)?;
                all.push(message);
            }
            _ => return Err(block.refused(&path)),
        }
    }
    Ok(())
}

/// Adds the assistant's blocks to one message.
fn assistant(all: &mut Vec<Message>, blocks: impl Iterator<Item = (String, Block)>) -> Result<(), ApiError> {
    let message = last(all, "assistant");
    for (path, block) in blocks {
        match block.kind.as_str() {
            "text" => join(&mut message.content, &required(block.text, &path, "text")?),
            // Any signature is accepted: thoughts are text that the client could also send as text.
            "thinking" => {
                let thoughts = required(block.thinking, &path, "thinking")?;
                join(message.reasoning_content.get_or_insert_default(), &thoughts);
            }
            "tool_use" => message.tool_calls.push(block.call(&path)?),
            _ => return Err(block.refused(&path)),
        }
    }
    Ok(())
}

/// The last message if it has this role, or another one.
fn last<'m>(all: &'m mut Vec<Message>, role: &str) -> &'m mut Message {
    if all.last().is_none_or(|message| message.role != role) {
        all.push(Message::new(role, ""));
    }
    let at = all.len() - 1;
    &mut all[at]
}

/// Adds a text on a line of its own.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

/// The functions of the tools. Anthropic's own tools do not exist here.
pub(super) fn functions(tools: Vec<InTool>) -> Result<Vec<ToolFunction>, ApiError> {
    let tools = tools.into_iter().enumerate();
    tools
        .map(|(i, tool)| match tool.kind.as_deref() {
            None | Some("custom") => Ok(ToolFunction {
                name: tool.name,
                description: tool.description,
                parameters: tool.input_schema,
            }),
            Some(kind) => {
                let path = format!("tools[{i}].type");
                let kind = kind.escape_debug();
                Err(ApiError::invalid(&path, format!("{path} is `{kind}`; this server has no such tool")))
            }
        })
        .collect()
}

impl InChoice {
    pub fn choice(&self) -> Result<ToolChoice, ApiError> {
        match (self.kind.as_str(), &self.name) {
            ("auto", _) => Ok(ToolChoice::Auto),
            ("none", _) => Ok(ToolChoice::None),
            ("any", _) => Ok(ToolChoice::Required),
            ("tool", Some(name)) => Ok(ToolChoice::Named(name.clone())),
            ("tool", None) => Err(ApiError::invalid("tool_choice.name", "tool_choice.name is missing")),
            _ => {
                Err(ApiError::invalid("tool_choice.type", "tool_choice.type must be auto, any, tool or none"))
            }
        }
    }
}
