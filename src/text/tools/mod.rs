//! Calls of tools in the form of a model: found out by rendering, enforced while tokens are sampled, read back.
//!
//! A chat template shows how its model writes calls: `probe` renders made-up ones and takes the form from what stands
//! around names and arguments (`form` is the data, `members` arguments that are not JSON). `known` has the forms that
//! templates do not show, and one for models without any. `grammar` makes a constraint of a form and the tools' schemas
//! (`arguments` for those that are not JSON, `texts` and `nested` for their values), `read` reads calls in a form.
//!
//! This folder knows templates, answers and constraints. It knows no model, no session and no request.

#[cfg(feature = "grammar")]
mod arguments;
#[cfg_attr(
    not(feature = "grammar"),
    allow(dead_code, reason = "constraints read more of a form than readers")
)]
mod form;
#[cfg(feature = "grammar")]
mod grammar;
#[cfg_attr(
    not(feature = "grammar"),
    allow(dead_code, reason = "constraints read more of a form than readers")
)]
mod kinds;
mod known;
mod members;
#[cfg(feature = "grammar")]
mod nested;
mod probe;
mod read;
mod rendering;
#[cfg(feature = "grammar")]
mod texts;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{AnswerFormat, is_name};
#[cfg(feature = "grammar")]
use super::constraint::{Constraint, ConstraintError, ConstraintFactory};
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use form::Form;
use read::Reader;

/// The calls that an answer may or must make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model chooses between text and calls.
    #[default]
    Auto,
    /// The answer is text.
    None,
    /// The answer is one or more calls.
    Required,
    /// The answer is a call of this tool, or several.
    Named(String),
    /// Only these of the tools may be called.
    Among {
        /// The names of the tools.
        names: Vec<String>,
        /// The answer is one or more calls.
        required: bool,
    },
}

impl ToolChoice {
    /// True if the answer has to be a call.
    pub fn requires_call(&self) -> bool {
        matches!(self, ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { required: true, .. })
    }
}

/// Reason why tools cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The description of a tool is malformed.
    #[error("tool {index}: {reason}")]
    Malformed {
        /// Its place in the list, counted from 0.
        index: usize,
        /// Description of the error.
        reason: String,
    },
    /// A call is required of a tool that is not there.
    #[error("there is no tool `{0}` to call")]
    Unknown(String),
    /// A call is required, but there is no tool.
    #[error("a call is required, but there is no tool")]
    NoTools,
    /// The schema of a tool's parameters cannot be kept.
    #[error("tool `{tool}`: the schema of its parameters cannot be used: {path}: {reason}")]
    Schema {
        /// The tool's name.
        tool: String,
        /// A JSON pointer to the keyword, with a `#`.
        path: String,
        /// Description of what is not supported.
        reason: String,
    },
    /// The calls cannot be constrained.
    #[cfg(feature = "grammar")]
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// A tool that a model may call.
#[derive(Clone, Debug)]
struct Tool {
    name: String,
    /// The JSON schema of its parameters.
    parameters: Value,
    /// Its description as the user gave it.
    described: Map<String, Value>,
}

/// The tools of a request.
fn tools_of(tools: &[Value]) -> Result<Vec<Tool>, ToolError> {
    let mut all: Vec<Tool> = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let malformed = |reason: &str| ToolError::Malformed { index, reason: reason.to_owned() };
        let described = tool.get("function").unwrap_or(tool).as_object();
        let described = described.ok_or_else(|| malformed("not an object"))?.clone();
        let name = described.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(malformed("its `name` must be letters, digits and `_-.:/`"));
        }
        if all.iter().any(|other| other.name == name) {
            return Err(malformed(&format!("another tool is named `{name}` too")));
        }
        let parameters = match described.get("parameters") {
            None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
            Some(parameters) => parameters.clone(),
        };
        all.push(Tool { name, parameters, described });
    }
    Ok(all)
}

/// A model's form of calls. Cheap to clone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rfgraph::text::{ChatTemplate, ToolFormat};
///
/// let tokenizer = rfgraph::Model::demo()?.tokenizer()?;
/// let format = ToolFormat::of(&ChatTemplate::of(&tokenizer)?, &tokenizer);
/// // The demo model's template has no tools: a system message must describe them.
/// let tool = serde_json::json!({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}});
/// assert!(format.instructions(&[tool])?.is_some_and(|text| text.contains("\"add\"")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ToolFormat {
    form: Arc<Form>,
    answers: AnswerFormat,
    #[cfg(feature = "grammar")]
    tokenizer: Tokenizer,
    /// The template writes the tools into the prompt.
    shows_tools: bool,
    /// The form is not the model's own.
    is_generic: bool,
}

impl ToolFormat {
    /// The format of a model's calls: as its template writes them; otherwise as models with its markers do; otherwise
    /// JSON between `<tool_call>` and `</tool_call>`.
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer) -> ToolFormat {
        let answers = AnswerFormat::of(tokenizer);
        let probed = probe::probe(template, tokenizer, &answers);
        let known = || known::all().into_iter().find(|form| answers.has_marker(&form.open));
        let form = probed.form.or_else(known);
        let is_generic = form.is_none();
        ToolFormat {
            form: Arc::new(form.unwrap_or_else(known::generic)),
            answers,
            #[cfg(feature = "grammar")]
            tokenizer: tokenizer.clone(),
            shows_tools: probed.shows_tools,
            is_generic,
        }
    }

    /// True if the model has no form of calls of its own that is known.
    pub fn is_generic(&self) -> bool {
        self.is_generic
    }

    /// True if an answer can have several calls.
    pub fn is_parallel(&self) -> bool {
        self.form.next.is_some()
    }

    /// The text on these tools for a system message; none if the template says it.
    ///
    /// # Errors
    /// [`ToolError::Malformed`].
    pub fn instructions(&self, tools: &[Value]) -> Result<Option<String>, ToolError> {
        let needs = !tools.is_empty() && (self.is_generic || !self.shows_tools);
        let tools = tools_of(tools)?;
        Ok(needs.then(|| known::instructions(&tools, self.shows_tools)))
    }

    /// The format of answers that may call these tools.
    ///
    /// # Errors
    /// [`ToolError::Malformed`].
    pub fn answers(&self, tools: &[Value]) -> Result<AnswerFormat, ToolError> {
        let tools = tools_of(tools)?;
        Ok(match tools.is_empty() {
            true => self.answers.clone(),
            false => self.answers.clone().with_calls(Arc::new(Reader::new(Form::clone(&self.form), &tools))),
        })
    }

    /// A constraint on answers that may call these tools, or must. In answers with thoughts it begins after them, as
    /// constraints on text do; where headers mark thoughts, text and calls, it is about all of the answer
    /// ([`Constraint::is_whole`]).
    ///
    /// # Errors
    /// [`ToolError`] if the tools are malformed or missing, or a schema cannot be kept, with tool and path.
    #[cfg(feature = "grammar")]
    pub fn constraint(
        &self,
        factory: &ConstraintFactory,
        tools: &[Value],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<Constraint, ToolError> {
        let mut tools = tools_of(tools)?;
        match choice {
            ToolChoice::Required if tools.is_empty() => return Err(ToolError::NoTools),
            ToolChoice::Named(name) => {
                tools.retain(|tool| tool.name == *name);
                if tools.is_empty() {
                    return Err(ToolError::Unknown(name.clone()));
                }
            }
            ToolChoice::Among { names, .. } => {
                let is_there = |name: &&String| tools.iter().any(|tool| tool.name == **name);
                if let Some(name) = names.iter().find(|name| !is_there(name)) {
                    return Err(ToolError::Unknown(name.clone()));
                }
                tools.retain(|tool| names.contains(&tool.name));
            }
            ToolChoice::None => tools.clear(),
            ToolChoice::Auto | ToolChoice::Required => {}
        }
        grammar::constraint(self, factory, &tools, choice.requires_call(), parallel)
    }
}
