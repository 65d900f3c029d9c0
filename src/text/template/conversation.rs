//! Messages, and the forms in which templates take them.

use std::borrow::Cow;

use minijinja::{Error, Value};

use super::json_bytes;
use super::python::{dictionary, list, of_json};

/// One message of a conversation.
///
/// The fields follow the chat format of Hugging Face `transformers`; a template sees the fields that are set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Role of the author: `system`, `user`, `assistant` or `tool`; the template defines the valid roles.
    pub role: String,
    /// Text of the message.
    pub content: String,
    /// The assistant's reasoning before the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that the assistant calls, each
    /// `{"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// For a tool's result: the tool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For a tool's result: the id of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message with this role and text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }

    /// The message's texts, without its tool calls.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.reasoning_content, &self.name, &self.tool_call_id].into_iter().flatten();
        [&self.role, &self.content].into_iter().chain(optional).map(String::as_str)
    }

    /// About the bytes of the message in JSON.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.reasoning_content, &self.name, &self.tool_call_id];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        64 + self.role.len()
            + self.content.len()
            + texts
            + self.tool_calls.iter().map(json_bytes).sum::<usize>()
    }

    /// The message as a template sees it.
    pub(super) fn to_value(&self, form: Form) -> Result<Value, Error> {
        let content = match form.is_typed {
            _ if form.nulls && has_calls_alone(self) => Value::from(()),
            true => {
                let part = [("type", "text"), ("text", self.content.as_str())];
                list(vec![dictionary(part.map(|(key, value)| (key.into(), value.into())).into())?])?
            }
            false => Value::from(self.content.as_str()),
        };
        let mut fields = vec![("role", Value::from(self.role.as_str())), ("content", content)];
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        // Templates name the assistant's reasoning differently; each reads one of these.
        for name in ["reasoning_content", "reasoning", "thinking"] {
            fields.extend(text(&self.reasoning_content).map(|text| (name, text)));
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(of_json).collect::<Result<_, _>>()?;
            fields.push(("tool_calls", list(calls)?));
        }
        fields.extend(text(&self.name).map(|text| ("name", text)));
        fields.extend(text(&self.tool_call_id).map(|text| ("tool_call_id", text)));
        dictionary(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
    }
}

/// A form of a conversation that a template may want.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Form {
    /// Texts are lists of one part, `[{"type": "text", "text": …}]`.
    is_typed: bool,
    /// A text beside tool calls is a message of its own.
    splits_calls: bool,
    /// System messages become a part of the first user message.
    moves_system: bool,
    /// An empty text beside tool calls is none.
    nulls: bool,
    /// The arguments of a call are a text, as in OpenAI's interface.
    writes_arguments: bool,
}

const PLAIN: Form =
    Form { is_typed: false, splits_calls: false, moves_system: false, nulls: false, writes_arguments: false };

/// The forms in the order in which they are tried.
pub(super) const FORMS: &[Form] = &[
    PLAIN,
    Form { is_typed: true, ..PLAIN },
    Form { splits_calls: true, ..PLAIN },
    Form { moves_system: true, ..PLAIN },
    Form { splits_calls: true, moves_system: true, ..PLAIN },
    Form { is_typed: true, splits_calls: true, ..PLAIN },
    Form { is_typed: true, moves_system: true, ..PLAIN },
    Form { nulls: true, ..PLAIN },
    Form { writes_arguments: true, ..PLAIN },
    Form { nulls: true, writes_arguments: true, ..PLAIN },
    Form { nulls: true, moves_system: true, ..PLAIN },
    Form { nulls: true, writes_arguments: true, moves_system: true, ..PLAIN },
];

impl Form {
    /// The conversation in this form; none if that changes nothing.
    pub(super) fn shape(self, messages: &[Message]) -> Option<Cow<'_, [Message]>> {
        let mut shaped = Cow::Borrowed(messages);
        if self.splits_calls {
            shaped = with_calls_apart(&shaped)?.into();
        }
        if self.moves_system {
            shaped = with_system_moved(&shaped)?.into();
        }
        if self.writes_arguments {
            shaped = with_written_arguments(&shaped)?.into();
        }
        if self.nulls && !shaped.iter().any(has_calls_alone) {
            return None;
        }
        Some(shaped)
    }

    /// True if texts are given as lists of parts.
    pub(super) fn is_typed(self) -> bool {
        self.is_typed
    }

    /// The warning that a user should see.
    pub(super) fn warning(self) -> Option<&'static str> {
        match (self.moves_system, self.splits_calls) {
            (true, _) => Some(
                "the chat template takes no system message: its text goes before that of the first user message",
            ),
            (_, true) => {
                Some("the chat template leaves out texts beside tool calls: they are messages of their own")
            }
            _ => None,
        }
    }
}

/// True for tool calls without a text.
fn has_calls_alone(message: &Message) -> bool {
    !message.tool_calls.is_empty() && message.content.trim().is_empty()
}

/// The arguments of each call as a text.
fn with_written_arguments(messages: &[Message]) -> Option<Vec<Message>> {
    let mut written = messages.to_vec();
    let mut changes = false;
    for call in written.iter_mut().flat_map(|message| &mut message.tool_calls) {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        if !arguments.is_string() {
            *arguments = arguments.to_string().into();
            changes = true;
        }
    }
    changes.then_some(written)
}

/// Each text beside tool calls in a message before them.
fn with_calls_apart(messages: &[Message]) -> Option<Vec<Message>> {
    let has_both = |message: &Message| !message.tool_calls.is_empty() && !message.content.trim().is_empty();
    if !messages.iter().any(has_both) {
        return None;
    }
    let mut apart = Vec::new();
    for message in messages {
        if has_both(message) {
            apart.push(Message { tool_calls: Vec::new(), ..message.clone() });
            apart.push(Message { content: String::new(), reasoning_content: None, ..message.clone() });
        } else {
            apart.push(message.clone());
        }
    }
    Some(apart)
}

/// The texts of system messages before that of the first user message, as llama.cpp does it.
fn with_system_moved(messages: &[Message]) -> Option<Vec<Message>> {
    let is_system = |message: &&Message| message.role == "system";
    let mut texts: Vec<&str> = messages.iter().filter(is_system).map(|m| m.content.as_str()).collect();
    if texts.is_empty() {
        return None;
    }
    let mut moved: Vec<Message> = messages.iter().filter(|message| !is_system(message)).cloned().collect();
    let user = moved.iter_mut().find(|message| message.role == "user")?;
    texts.push(&user.content);
    user.content = texts.join("\n");
    Some(moved)
}
