//! Conversations in ollama's form.

use serde::Deserialize;
use serde_json::Value;

use super::fields::no_images;
use crate::serve::error::ApiError;
use crate::serve::openai::messages::InCall;
use crate::text::Message;

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub(super) struct InMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    images: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Vec<InCall>>,
    #[serde(default, alias = "name")]
    tool_name: Option<String>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

impl InMessage {
    /// The message for a template.
    fn message(self, at: &str) -> Result<Message, ApiError> {
        if !["system", "user", "assistant", "tool"].contains(&self.role.as_str()) {
            let role = self.role.escape_debug();
            let message = format!("{at}.role is `{role}`; it must be system, user, assistant or tool");
            return Err(ApiError::invalid(format!("{at}.role"), message));
        }
        no_images(self.images.as_ref(), &format!("{at}.images"))?;
        let calls = self.tool_calls.unwrap_or_default().into_iter().enumerate();
        let calls = calls.map(|(i, call)| call.value(&format!("{at}.tool_calls[{i}]")));
        Ok(Message {
            reasoning_content: self.thinking.filter(|text| !text.is_empty()),
            tool_calls: calls.collect::<Result<_, _>>()?,
            name: self.tool_name.filter(|name| !name.is_empty()),
            tool_call_id: self.tool_call_id.filter(|id| !id.is_empty()),
            ..Message::new(self.role, self.content.unwrap_or_default())
        })
    }
}

/// The messages for a template.
pub(super) fn messages(list: Vec<InMessage>) -> Result<Vec<Message>, ApiError> {
    let list = list.into_iter().enumerate();
    list.map(|(i, message)| message.message(&format!("messages[{i}]"))).collect()
}
