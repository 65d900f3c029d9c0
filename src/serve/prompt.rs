//! Conversations as prompts.

use serde_json::{Map, Value};

use super::ask::Ask;
use super::error::ApiError;
use super::models::{Loaded, Source};
use super::settings::Settings;
use crate::text::{AnswerFormat, EncodeOptions, Message, RenderOptions, ToolChoice, ToolError};

/// A conversation to answer.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub messages: Vec<Message>,
    /// Tools in OpenAI's form.
    pub tools: Vec<Value>,
    pub choice: ToolChoice,
    /// The answer has at most one call.
    pub one_call: bool,
    /// Variables of the template.
    pub variables: Map<String, Value>,
    /// The answer continues the last message, which is the assistant's.
    pub continues: bool,
    /// False: the prompt ends with the last message.
    pub opens_answer: bool,
}

impl Conversation {
    /// The answer to ask for. `form` is a constraint on its text, with the field that asks for it.
    ///
    /// Takes long: not on a thread that answers requests.
    pub fn ask(
        mut self,
        loaded: &Loaded,
        settings: Settings,
        form: Option<(Source, &str)>,
    ) -> Result<Ask, ApiError> {
        let is_calling = self.offers_tools();
        if let (Some((_, name)), true) = (&form, is_calling) {
            let message =
                format!("{name} and tools exclude each other; tool_choice none leaves the tools out");
            return Err(ApiError::invalid(*name, message));
        }
        let answers = if is_calling { self.describe_tools(loaded)? } else { loaded.format.clone() };
        let constraint = match form {
            Some((source, name)) => Some(loaded.constraint(&source, name)?),
            None if is_calling => {
                let calls = Source::Calls(self.tools.clone(), self.choice.clone(), !self.one_call);
                Some(loaded.constraint(&calls, "tools")?)
            }
            None => None,
        };
        let prompt = self.encode(loaded)?;
        let parser = answers.parser(&prompt);
        let parser = Some(if is_calling { parser.with_call_pieces() } else { parser });
        Ok(Ask { parser, constraint, ..Ask::plain(prompt, settings) })
    }

    /// True if the answer may call tools.
    pub fn offers_tools(&self) -> bool {
        !self.tools.is_empty() && self.choice != ToolChoice::None
    }

    /// Says in a system message what the template does not say of the tools, and returns the format of the answers.
    fn describe_tools(&mut self, loaded: &Loaded) -> Result<AnswerFormat, ApiError> {
        let format = loaded.tool_format()?;
        let wrong = |error: ToolError| ApiError::invalid("tools", error.to_string());
        if let Some(text) = format.instructions(&self.tools).map_err(wrong)? {
            match self.messages.first_mut().filter(|message| message.role == "system") {
                Some(system) if system.content.is_empty() => system.content = text,
                Some(system) => system.content = format!("{}\n\n{text}", system.content),
                None => self.messages.insert(0, Message::new("system", text)),
            }
        }
        format.answers(&self.tools).map_err(wrong)
    }

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
            tools: if self.offers_tools() { &self.tools } else { &[] },
            variables: self.variables.clone(),
            ..RenderOptions::default()
        }
    }
}
