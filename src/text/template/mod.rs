//! Chat templates: a conversation rendered in the format that a model was trained on.
//!
//! A GGUF file carries its template as Jinja source (`tokenizer.chat_template`), written for the Python library Jinja2
//! as set up by Hugging Face `transformers`. Rendering equals that byte for byte, or fails: `syntax` reads the source as
//! Jinja2 does and translates it for the engine, and `python` has Python's values and Jinja2's functions. A file may
//! contain any program, so `bounds` limits its time, memory and nesting.
//!
//! Nothing that a message says is dropped in silence: `kept` looks for each text in the prompt, and `conversation` has the
//! other forms of a conversation that templates want.
//!
//! This folder knows the special tokens of a `Tokenizer`. It knows no sampling and no model.

mod bounds;
mod conversation;
mod kept;
mod literal;
mod python;
mod syntax;
#[cfg(test)]
mod tests;
mod time;

use std::sync::Once;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};

use crate::Remedy;
use crate::text::tokenizer::Tokenizer;
use bounds::{Bounds, Exceeded, on_deep_stack, within};
pub use conversation::Message;
use conversation::{FORMS, Form};
use kept::Marked;
use python::{list, of_json};
pub(crate) use time::strftime;
use time::unix_seconds;

/// Inputs of a template besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Ends the prompt with the beginning of the model's answer.
    pub add_generation_prompt: bool,
    /// The tools that the model may call, each `{"type": "function", "function": {"name": …, "description": …,
    /// "parameters": …}}` with a JSON schema of the parameters. A template without tool support ignores them.
    pub tools: &'a [serde_json::Value],
    /// Further variables, such as `enable_thinking`. They override the standard ones of the same name.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The time for templates that print the date (in UTC); `None` is the current time.
    pub now: Option<SystemTime>,
}

impl RenderOptions<'_> {
    /// Bytes of tools and variables.
    fn bytes(&self) -> usize {
        let variables =
            self.variables.iter().map(|(key, value)| key.len() + json_bytes(value)).sum::<usize>();
        variables + self.tools.iter().map(json_bytes).sum::<usize>()
    }
}

/// About the length of a value in JSON.
fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    8 + match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(key, value)| key.len() + json_bytes(value)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    }
}

/// Reason why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file has no template, and its vocabulary suggests none.
    #[error(
        "the model has no chat template (tokenizer.chat_template), and its vocabulary has no <|im_start|> \
         for ChatML; a plain prompt needs none"
    )]
    Missing,
    /// The file's template is not a text.
    #[error("{reason}; a plain prompt needs no template")]
    Unreadable {
        /// The key and its type.
        reason: String,
    },
    /// The template is not valid Jinja.
    #[error("tokenizer.chat_template, line {line}: {reason}; a plain prompt needs no template")]
    Syntax {
        /// The line of the template, counted from 1.
        line: usize,
        /// Description of the error.
        reason: String,
    },
    /// The template itself rejects the conversation.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template took more steps than the conversation's size allows.
    #[error("tokenizer.chat_template did not end within its {steps} steps; a plain prompt needs no template")]
    Endless {
        /// The limit of instructions.
        steps: u64,
    },
    /// The template built more text than the conversation's size allows.
    #[error("tokenizer.chat_template built more than {bytes} bytes; a plain prompt needs no template")]
    TooLarge {
        /// The limit of bytes, of all values that the template builds.
        bytes: u64,
    },
    /// The template leaves out what a message says, in every form that it was given.
    #[error(
        "the chat template leaves out the {role} message {index} ({excerpt:?}); leave the message out, or use a plain \
         prompt"
    )]
    Dropped {
        /// Role of the message.
        role: String,
        /// Place of the message in the conversation, counted from 0.
        index: usize,
        /// The beginning of its text.
        excerpt: String,
    },
    /// An operation of the template failed, or is one that this renderer does not have.
    #[error("tokenizer.chat_template, line {line}: {reason}; a plain prompt needs no template")]
    Failed {
        /// The line of the template, counted from 1.
        line: usize,
        /// Description of the failure.
        reason: String,
    },
}

impl TemplateError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            TemplateError::Refused(_) => &[],
            _ => &[Remedy::PlainPrompt],
        }
    }
}

/// Name of the template in its environment.
const NAME: &str = "chat";

/// The variable that holds the time of rendering, as [`ChatTemplate::render_with`] sets it.
const NOW: &str = "__rf_seconds_since_1970";

/// Nesting of macros' calls times four, the engine's weight of a call.
const MAX_CALLS: usize = 500;

/// The ChatML format, for vocabularies that have its tokens in files without a template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The message passed to [`raise_exception`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// A compiled chat template with the special tokens it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Bytes of the source.
    size: usize,
    bos: String,
    eos: String,
    /// Says once that messages take another form.
    warned: Once,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of those tokens, or empty.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] if the source is not supported Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate, TemplateError> {
        let syntax = |error: syntax::SyntaxError| TemplateError::Syntax {
            line: error.line,
            reason: format!("syntax error: {}", error.reason),
        };
        let translated = syntax::translate(source).map_err(syntax)?;
        let compiled = on_deep_stack(|| compile(translated));
        let environment = compiled.map_err(|reason| TemplateError::Syntax { line: 1, reason })??;
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        Ok(ChatTemplate { environment, size: source.len(), bos, eos, warned: Once::new() })
    }

    /// The template of a model: from its file, or ChatML if the vocabulary has `<|im_start|>`. A template without any
    /// text is none.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] if neither applies, [`TemplateError::Unreadable`], [`TemplateError::Syntax`] as
    /// [`new`](Self::new).
    pub fn of(tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        if let Some(reason) = tokenizer.chat_template_problem() {
            return Err(TemplateError::Unreadable { reason: reason.into() });
        }
        let source = match tokenizer.chat_template().filter(|source| !source.trim().is_empty()) {
            Some(source) => source,
            None if tokenizer.special_id("<|im_start|>").is_some() => CHATML,
            None => return Err(TemplateError::Missing),
        };
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        ChatTemplate::new(source, text_of(tokenizer.bos()), text_of(tokenizer.eos()))
    }

    /// Renders a conversation; with `add_generation_prompt` up to the beginning of the model's answer. Templates that
    /// print the date get the current one, in UTC.
    ///
    /// # Errors
    /// [`TemplateError`] if the template rejects the conversation, drops a part of it, fails, or exceeds its limits.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_with(messages, &RenderOptions { add_generation_prompt, ..RenderOptions::default() })
    }

    /// [`render`](Self::render) with tools and further variables.
    ///
    /// The template gets the conversation as it is first. If it fails or leaves a message or a call out, it gets the other forms
    /// of `conversation`, such as texts as typed parts or system messages as a part of the first user message. A warning says
    /// once that messages were split or moved, or that no form has the calls. Short texts are in a prompt for other reasons too:
    /// a conversation with such texts, or with calls, is rendered once more with marks in it.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &[Message],
        options: &RenderOptions<'_>,
    ) -> Result<String, TemplateError> {
        let (mut first_error, mut without_calls) = (None, None);
        for &form in FORMS {
            match self.render_form(messages, form, options) {
                None => {}
                Some(Ok((text, true))) => {
                    if let Some(warning) = form.warning() {
                        self.warned.call_once(|| tracing::warn!("{warning}"));
                    }
                    return Ok(text);
                }
                Some(Ok((text, false))) => _ = without_calls.get_or_insert(text),
                // Another form changes nothing here.
                Some(Err(error @ (TemplateError::Endless { .. } | TemplateError::TooLarge { .. }))) => {
                    return Err(error);
                }
                Some(Err(error)) => _ = first_error.get_or_insert(error),
            }
        }
        let Some(text) = without_calls else { return Err(first_error.unwrap_or(TemplateError::Missing)) };
        self.warned.call_once(|| tracing::warn!("the chat template leaves out the calls of tools"));
        Ok(text)
    }

    /// The prompt of the conversation in this form, and true if it has the calls of tools; `None` if the form changes nothing.
    fn render_form(
        &self,
        messages: &[Message],
        form: Form,
        options: &RenderOptions<'_>,
    ) -> Option<Result<(String, bool), TemplateError>> {
        let render = |messages: &[Message]| {
            let bounds = self.bounds(messages, options);
            Some(self.render_once(&form.shape(messages)?, form, options, bounds))
        };
        let checked = render(messages)?.and_then(|text| {
            if form.is_typed() && kept::prints_parts(messages, &text) {
                return Err(TemplateError::Failed { line: 1, reason: "it prints lists of parts".into() });
            }
            kept::check(messages, &text)?;
            if kept::is_evident(messages, &text) {
                return Ok((text, true));
            }
            let marked = Marked::new(messages, &text);
            let Some(again) = render(&marked.messages) else { return Ok((text, true)) };
            let has_calls = marked.check(messages, &again?)?;
            Ok((text, has_calls))
        });
        Some(checked)
    }

    fn bounds(&self, messages: &[Message], options: &RenderOptions<'_>) -> Bounds {
        let bytes = messages.iter().map(Message::bytes).sum::<usize>() + options.bytes() + self.size;
        Bounds::of(bytes, messages.len())
    }

    fn render_once(
        &self,
        messages: &[Message],
        form: Form,
        options: &RenderOptions<'_>,
        bounds: Bounds,
    ) -> Result<String, TemplateError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(bounds.steps));
        let run = || within(bounds, || self.run(&environment, messages, form, options));
        let failed = |reason| TemplateError::Failed { line: 1, reason };
        on_deep_stack(run).map_err(failed)?.map_err(|error| explain(&error, bounds, false))
    }

    fn run(
        &self,
        environment: &Environment<'_>,
        messages: &[Message],
        form: Form,
        options: &RenderOptions<'_>,
    ) -> Result<String, Error> {
        let template = environment.get_template(NAME)?;
        let values =
            |values: &[serde_json::Value]| list(values.iter().map(of_json).collect::<Result<_, _>>()?);
        let mut given = Vec::new();
        for (key, value) in &options.variables {
            given.push((key.as_str(), of_json(value)?));
        }
        let messages = messages.iter().map(|message| message.to_value(form)).collect::<Result<_, _>>()?;
        let usual = context! {
            messages => list(messages)?,
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // As in transformers, the variables exist in conversations without tools too.
            tools => (!options.tools.is_empty()).then(|| values(options.tools)).transpose()?,
            documents => Value::from(()),
            __rf_seconds_since_1970 => unix_seconds(options.now.unwrap_or_else(SystemTime::now)),
        };
        template.render(context! { ..Value::from_pairs(given), ..usual })
    }
}

/// The environment with the translated template.
fn compile(translated: String) -> Result<Environment<'static>, TemplateError> {
    let none = Bounds::of(0, 0);
    let mut environment = Environment::empty();
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.keep_trailing_newline(true).build().map_err(|error| explain(&error, none, true))?;
    environment.set_syntax(syntax);
    environment.set_debug(false);
    environment.set_recursion_limit(MAX_CALLS);
    python::install(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(NAME, translated).map_err(|error| explain(&error, none, true))?;
    Ok(environment)
}

/// The template function that rejects a conversation.
fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message = python::message_of(message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The template function that formats the present time.
fn strftime_now(state: &mut State<'_, '_>, format: &str) -> Result<String, Error> {
    let seconds = state.lookup(NOW).and_then(|value| value.as_i64()).unwrap_or(0);
    // A directive takes about 160 ns, and `%c` writes 24 bytes.
    bounds::worked(format.len().saturating_mul(16))?;
    let text = strftime(format, seconds).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))?;
    bounds::made(text.len())?;
    Ok(text)
}

/// Converts an engine error: the innermost reason, without the engine's own prefix.
fn explain(error: &Error, bounds: Bounds, compiling: bool) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        match inner.downcast_ref() {
            Some(Exceeded::Memory) => return TemplateError::TooLarge { bytes: bounds.bytes },
            Some(Exceeded::Work) => return TemplateError::Endless { steps: bounds.steps },
            None => {}
        }
        if inner.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::Endless { steps: bounds.steps };
        }
        source = inner.source();
    }
    let kind = error.kind();
    let reason = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
    let line = error.line().unwrap_or(1);
    match compiling {
        true => TemplateError::Syntax { line, reason },
        false => TemplateError::Failed { line, reason },
    }
}
