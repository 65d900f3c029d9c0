//! Conversations as prompts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{ApiError, Kind};
use super::models::Loaded;
use crate::text::{EncodeOptions, Message, RenderOptions};

/// A conversation to answer.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub messages: Vec<Message>,
    /// In OpenAI's form.
    pub tools: Vec<Value>,
    /// Variables of the template.
    pub variables: Map<String, Value>,
    /// The answer continues the last message, which is the assistant's.
    pub continues: bool,
    /// False: the prompt ends with the last message.
    pub opens_answer: bool,
}

impl Conversation {
    /// The tokens of the prompt. Rendering may take long: not on a thread that answers requests.
    pub fn encode(&self, loaded: &Loaded) -> Result<Vec<u32>, ApiError> {
        let (messages, begun) = self.begun();
        let tokenizer = loaded.tokenizer();
        let mut tokens = loaded.template()?.encode(tokenizer, messages, &self.options())?;
        if !begun.is_empty() {
            let plain = EncodeOptions { add_special: false, parse_special: false };
            tokens.extend(tokenizer.encode(begun, plain));
        }
        Ok(tokens)
    }

    /// The text of the prompt.
    pub fn render(&self, loaded: &Loaded) -> Result<String, ApiError> {
        let (messages, begun) = self.begun();
        Ok(loaded.template()?.render_with(messages, &self.options())? + begun)
    }

    /// The messages to render, and the beginning of the answer.
    fn begun(&self) -> (&[Message], &str) {
        match self.messages.split_last() {
            Some((last, before)) if self.continues => (before, last.content.as_str()),
            _ => (&self.messages[..], ""),
        }
    }

    fn options(&self) -> RenderOptions<'_> {
        RenderOptions {
            add_generation_prompt: self.opens_answer || self.continues,
            tools: &self.tools,
            variables: self.variables.clone(),
            ..RenderOptions::default()
        }
    }
}

/// Runs work that may take long on a thread that may wait.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(Kind::Failed, "preparing the request failed")),
    }
}

/// [`Conversation::encode`] on a thread that may wait.
pub(super) async fn encode(loaded: &Arc<Loaded>, conversation: Conversation) -> Result<Vec<u32>, ApiError> {
    let loaded = Arc::clone(loaded);
    apart(move || conversation.encode(&loaded)).await
}
