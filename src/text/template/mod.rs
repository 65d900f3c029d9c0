//! Chat templates: a conversation rendered in the format that a model was trained on.
//!
//! A GGUF file carries its template as Jinja source (`tokenizer.chat_template`), written for the Python library Jinja2
//! as set up by Hugging Face `transformers`: blocks trimmed, a few functions added, values printed as Python prints
//! them. Rendering follows that within a limit of instructions, since a file may contain any program. Memory is not
//! limited: a template can build a long string in few instructions.
//!
//! This folder knows the special tokens of a `Tokenizer`. It knows no sampling and no model.

mod python;
mod time;

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};

use crate::Remedy;
use crate::text::tokenizer::Tokenizer;
use python::{indent, is_iterable, is_sequence, of_json, print_value, string_of, to_json};
use time::{strftime, unix_seconds};

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

    fn to_value(&self) -> Value {
        let mut fields = vec![("role", self.role.as_str().into()), ("content", self.content.as_str().into())];
        let calls = || self.tool_calls.iter().map(of_json).collect::<Value>();
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        // Templates name the assistant's reasoning differently; each reads one of these.
        for name in ["reasoning_content", "reasoning", "thinking"] {
            fields.extend(text(&self.reasoning_content).map(|text| (name, text)));
        }
        fields.extend((!self.tool_calls.is_empty()).then(|| ("tool_calls", calls())));
        fields.extend(text(&self.name).map(|text| ("name", text)));
        fields.extend(text(&self.tool_call_id).map(|text| ("tool_call_id", text)));
        Value::from_pairs(fields)
    }
}

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
    /// The template exceeded the instruction limit.
    #[error("tokenizer.chat_template did not end within {STEPS} steps; a plain prompt needs no template")]
    Endless,
    /// An operation of the template failed.
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

/// Instruction limit of a template: real ones take a few hundred per message.
const STEPS: u64 = 10_000_000;

/// Name of the template in its environment.
const NAME: &str = "chat";

/// The variable that holds the time of rendering, as [`ChatTemplate::render_with`] sets it.
const NOW: &str = "__seconds_since_1970";

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
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of those tokens, or empty.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] if the source is not supported Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate, TemplateError> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        environment
            .set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build().map_err(|e| explain(&e, true))?);
        environment.set_fuel(Some(STEPS));
        environment.set_debug(false);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(print_value);
        environment.add_filter("tojson", to_json);
        environment.add_filter("indent", indent);
        environment.add_filter("string", string_of);
        environment.add_test("iterable", is_iterable);
        environment.add_test("sequence", is_sequence);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let source = without_generation_tags(source);
        environment.add_template_owned(NAME, source).map_err(|error| explain(&error, true))?;
        Ok(ChatTemplate { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The template of a model: from its file, or ChatML if the vocabulary has `<|im_start|>`.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] if neither applies, [`TemplateError::Syntax`] as [`new`](Self::new).
    pub fn of(tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        let source = match tokenizer.chat_template() {
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
    /// [`TemplateError`] if the template rejects the conversation, fails, or exceeds the instruction limit.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_with(messages, &RenderOptions { add_generation_prompt, ..RenderOptions::default() })
    }

    /// [`render`](Self::render) with tools and further variables.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &[Message],
        options: &RenderOptions<'_>,
    ) -> Result<String, TemplateError> {
        let template = self.environment.get_template(NAME).map_err(|error| explain(&error, false))?;
        let given =
            Value::from_pairs(options.variables.iter().map(|(key, value)| (key.as_str(), of_json(value))));
        let usual = context! {
            messages => messages.iter().map(Message::to_value).collect::<Value>(),
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // As in transformers, the variables exist in conversations without tools too.
            tools => (!options.tools.is_empty()).then(|| options.tools.iter().map(of_json).collect::<Value>()),
            documents => Value::from(()),
            __seconds_since_1970 => unix_seconds(options.now.unwrap_or_else(SystemTime::now)),
        };
        template.render(context! { ..given, ..usual }).map_err(|error| explain(&error, false))
    }
}

/// The template function that rejects a conversation.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The template function that formats the present time.
fn strftime_now(state: &mut State, format: &str) -> Result<String, Error> {
    let seconds = state.lookup(NOW).and_then(|value| value.as_i64()).unwrap_or(0);
    strftime(format, seconds).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

/// Converts an engine error: the innermost reason, without the engine's own prefix.
fn explain(error: &Error, compiling: bool) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        source = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Endless;
    }
    let kind = error.kind();
    let reason = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
    let line = error.line().unwrap_or(1);
    match compiling {
        true => TemplateError::Syntax { line, reason },
        false => TemplateError::Failed { line, reason },
    }
}

/// The source with `{% generation %}` … `{% endgeneration %}` replaced by a condition that is always true. The tag, an
/// extension of transformers, marks the model's own text for training and renders its content.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let (left, name) = inner.strip_prefix(['-', '+']).map_or(("", inner), |name| (&inner[..1], name));
        let (name, right) =
            name.strip_suffix(['-', '+']).map_or((name, ""), |short| (short, &name[short.len()..]));
        match name.trim() {
            "generation" => out.extend(["{%", left, " if true ", right, "%}"]),
            "endgeneration" => out.extend(["{%", left, " endif ", right, "%}"]),
            _ => out.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    out + rest
}
