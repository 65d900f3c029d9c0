//! Chat templates: a conversation as the one text that a model was trained on.
//!
//! A GGUF file carries its template as Jinja source (`tokenizer.chat_template`), written for the Python
//! library Jinja2 as Hugging Face `transformers` sets it up: blocks trimmed, a few functions added, values
//! printed as Python prints them. Rendering follows that, within a limit of steps, since a file may hold
//! any program. The limit does not cover memory: a template can build a long string in few steps.
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
/// The fields are those of the chat format of Hugging Face `transformers`; a template sees those that are set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or `tool`; which roles there are is the template's matter.
    pub role: String,
    /// What they say.
    pub content: String,
    /// What the assistant thought before it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that the assistant calls, each
    /// `{"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// Whose answer this is: the name of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which call this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }

    fn to_value(&self) -> Value {
        let mut fields = vec![("role", self.role.as_str().into()), ("content", self.content.as_str().into())];
        let calls = || self.tool_calls.iter().map(of_json).collect::<Value>();
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        fields.extend(text(&self.reasoning_content).map(|text| ("reasoning_content", text)));
        fields.extend((!self.tool_calls.is_empty()).then(|| ("tool_calls", calls())));
        fields.extend(text(&self.name).map(|text| ("name", text)));
        fields.extend(text(&self.tool_call_id).map(|text| ("tool_call_id", text)));
        Value::from_pairs(fields)
    }
}

/// What a template gets beside the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Renders up to where the model's answer begins.
    pub add_generation_prompt: bool,
    /// The tools that the model may call, each `{"type": "function", "function": {"name": …, "description": …,
    /// "parameters": …}}` with a JSON schema of the parameters. A template that knows no tools ignores them.
    pub tools: &'a [serde_json::Value],
    /// Further variables, such as `enable_thinking`. They hide the usual ones of the same name.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The time, for templates that ask for the date (in UTC); `None` is the present.
    pub now: Option<SystemTime>,
}

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file has no template, and its vocabulary suggests none.
    #[error(
        "the model has no chat template (tokenizer.chat_template), and its vocabulary has no <|im_start|> \
         for ChatML; a plain prompt needs none"
    )]
    Missing,
    /// The template is no valid Jinja.
    #[error("tokenizer.chat_template, line {line}: {reason}; a plain prompt needs no template")]
    Syntax {
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The template itself refuses the conversation.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template ran longer than any real one needs.
    #[error("tokenizer.chat_template did not end within {STEPS} steps; a plain prompt needs no template")]
    Endless,
    /// Something the template does fails.
    #[error("tokenizer.chat_template, line {line}: {reason}; a plain prompt needs no template")]
    Failed {
        /// The line of the template, from 1.
        line: usize,
        /// What failed there.
        reason: String,
    },
}

impl TemplateError {
    /// What would help; nothing, where that is not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            TemplateError::Refused(_) => &[],
            _ => &[Remedy::PlainPrompt],
        }
    }
}

/// How many instructions a template may execute: real ones take some hundred per message.
const STEPS: u64 = 10_000_000;

/// The one template's name in its environment.
const NAME: &str = "chat";

/// The variable that holds the time of rendering, as [`ChatTemplate::render_with`] sets it.
const NOW: &str = "__seconds_since_1970";

/// The ChatML format, for vocabularies that have its tokens in files without a template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What [`raise_exception`] was called with.
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
    /// Compiles a template. `bos` and `eos` are the texts of those tokens, empty if there are none.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] if the source is no Jinja that is supported.
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

    /// The template of a model: its file's own; else ChatML, if the vocabulary has `<|im_start|>`.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] if there is neither, [`TemplateError::Syntax`] as [`new`](Self::new).
    pub fn of(tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        let source = match tokenizer.chat_template() {
            Some(source) => source,
            None if tokenizer.special_id("<|im_start|>").is_some() => CHATML,
            None => return Err(TemplateError::Missing),
        };
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        ChatTemplate::new(source, text_of(tokenizer.bos()), text_of(tokenizer.eos()))
    }

    /// Renders a conversation; with `add_generation_prompt` up to where the model's answer begins. A
    /// template that asks for the date gets today's, in UTC.
    ///
    /// # Errors
    /// [`TemplateError`] if the template refuses the conversation, fails, or does not end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_with(messages, &RenderOptions { add_generation_prompt, ..RenderOptions::default() })
    }

    /// [`render`](Self::render), with tools and whatever else a template may ask for.
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
            // A conversation without tools has the variables all the same, as in transformers.
            tools => (!options.tools.is_empty()).then(|| options.tools.iter().map(of_json).collect::<Value>()),
            documents => Value::from(()),
            __seconds_since_1970 => unix_seconds(options.now.unwrap_or_else(SystemTime::now)),
        };
        template.render(context! { ..given, ..usual }).map_err(|error| explain(&error, false))
    }
}

/// The template function that refuses a conversation.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The template function that formats the present time.
fn strftime_now(state: &mut State, format: &str) -> Result<String, Error> {
    let seconds = state.lookup(NOW).and_then(|value| value.as_i64()).unwrap_or(0);
    strftime(format, seconds).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

/// An engine's error as ours: the innermost reason, without the engine's words around it.
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

/// The source with `{% generation %}` … `{% endgeneration %}` as a condition that holds. The tag, which
/// transformers adds, marks the model's own text for training and renders as what it encloses.
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
