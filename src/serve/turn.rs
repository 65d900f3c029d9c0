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

/// The tools that an answer calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    /// The model chooses.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// The one of this name.
    Named(String),
}

/// A conversation to answer, with what is asked of the answer.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub messages: Vec<Message>,
    pub tools: Vec<ToolFunction>,
    pub choice: ToolChoice,
    /// The field that allows one call at most, if there is one.
    pub one_call: Option<&'static str>,
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

    /// What to ask, and how to show the answer. Not on a thread that answers requests.
    pub fn ask(mut self, loaded: &Loaded, settings: Settings) -> Result<(Ask, View), ApiError> {
        let constraint = match self.source.take() {
            Some((source, name)) => Some(loaded.constraint(&source, name)?),
            None => None,
        };
        let conversation = self.conversation()?;
        let view = View { thoughts_apart: true, calls_apart: !conversation.tools.is_empty() };
        let prompt = conversation.encode(loaded)?;
        let parser = Some(loaded.format.parser(&prompt));
        Ok((Ask { parser, constraint, ..Ask::plain(prompt, settings) }, view))
    }

    fn conversation(mut self) -> Result<Conversation, ApiError> {
        if self.tools.len() > MOST_TOOLS {
            let message = format!("tools has {} entries; {MOST_TOOLS} is the most", self.tools.len());
            return Err(ApiError::invalid("tools", message));
        }
        match self.choice {
            ToolChoice::Auto => {}
            ToolChoice::None => self.tools.clear(),
            ToolChoice::Required | ToolChoice::Named(_) => {
                return Err(ApiError::unsupported("tool_choice", "set it to auto or none"));
            }
        }
        if let Some(field) = self.one_call.filter(|_| !self.tools.is_empty()) {
            return Err(ApiError::unsupported(field, "leave it out"));
        }
        Ok(Conversation {
            messages: self.messages,
            tools: self.tools.iter().map(tool_value).collect(),
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
