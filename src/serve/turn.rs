//! A conversation with its tools and the form of its answer, as something to ask.

use serde_json::{Map, Value};

use super::ask::Ask;
use super::error::ApiError;
use super::models::{Loaded, Source};
use super::openai::messages::{MOST_TOOLS, ToolFunction, tool_value};
use super::parts::View;
use super::prompt::Conversation;
use super::settings::Settings;
use crate::text::Message;
pub(super) use crate::text::ToolChoice;

/// A conversation to answer, with what is asked of the answer.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub messages: Vec<Message>,
    pub tools: Vec<ToolFunction>,
    pub choice: ToolChoice,
    /// The answer has at most one call.
    pub one_call: bool,
    /// Variables of the template.
    pub variables: Map<String, Value>,
    /// The answer continues the last message, which is the assistant's.
    pub continues: bool,
    /// The constraint on the answer's text, with the field that asks for it.
    pub source: Option<(Source, &'static str)>,
}

impl Turn {
    /// The number of tokens of the prompt. Not on a thread that answers requests.
    pub fn count(self, loaded: &Loaded) -> Result<usize, ApiError> {
        Ok(self.conversation()?.encode(loaded)?.len())
    }

    /// The question, and the way to show the answer. Not on a thread that answers requests.
    pub fn ask(mut self, loaded: &Loaded, settings: Settings) -> Result<(Ask, View), ApiError> {
        let source = self.source.take();
        let conversation = self.conversation()?;
        let view = View { thoughts_apart: true, calls_apart: conversation.offers_tools() };
        Ok((conversation.ask(loaded, settings, source)?, view))
    }

    fn conversation(self) -> Result<Conversation, ApiError> {
        if self.tools.len() > MOST_TOOLS {
            let message = format!("tools has {} entries; {MOST_TOOLS} is the most", self.tools.len());
            return Err(ApiError::invalid("tools", message));
        }
        if self.choice.requires_call() && self.tools.is_empty() {
            return Err(ApiError::invalid(
                "tool_choice",
                "tool_choice asks for a call, but there are no tools",
            ));
        }
        Ok(Conversation {
            messages: self.messages,
            tools: self.tools.iter().map(tool_value).collect(),
            choice: self.choice,
            one_call: self.one_call,
            variables: self.variables,
            continues: self.continues,
            opens_answer: !self.continues,
        })
    }
}

/// Sets the variables by which templates read how long the model thinks.
pub(super) fn set_effort(
    variables: &mut Map<String, Value>,
    effort: String,
    field: &str,
) -> Result<(), ApiError> {
    const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    if !EFFORTS.contains(&effort.as_str()) {
        let message = format!("{field} must be one of {}", EFFORTS.join(", "));
        return Err(ApiError::invalid(field, message));
    }
    variables.entry("enable_thinking").or_insert_with(|| (effort != "none").into());
    variables.entry("reasoning_effort").or_insert_with(|| effort.into());
    Ok(())
}
