//! A model that answers: its engine, its names, and what requests need of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::model::{Model, Pooling};
use crate::sampling::SamplerParams;
use crate::serve::error::ApiError;
use crate::text::{
    AnswerFormat, ChatTemplate, Constraint, ConstraintError, ConstraintFactory, TemplateError, Tokenizer,
    ToolChoice, ToolFormat,
};

/// Constraints that are kept compiled.
const KEPT_CONSTRAINTS: usize = 64;

/// The names of a model: its id, and others by which requests may call it.
#[derive(Clone, Debug)]
pub struct ModelNames {
    /// The name in answers and in lists.
    pub id: String,
    /// Further names.
    pub aliases: Vec<String>,
}

impl ModelNames {
    /// True if this is one of the names.
    pub fn has(&self, name: &str) -> bool {
        name == self.id || self.aliases.iter().any(|alias| alias == name)
    }
}

/// A model that answers.
pub struct Loaded {
    pub(in crate::serve) names: ModelNames,
    pub(in crate::serve) created: u64,
    pub(in crate::serve) engine: Engine,
    /// The template, or the reason why there is none: prompts without a conversation need none.
    pub(in crate::serve) template: Result<ChatTemplate, String>,
    pub(in crate::serve) format: AnswerFormat,
    /// The form of calls of tools, or the reason why there is none.
    tools: Result<ToolFormat, String>,
    pooling: Option<Pooling>,
    /// The samplers' settings for requests that have none.
    pub(in crate::serve) sampling: SamplerParams,
    /// The limit of tokens for requests that have none.
    pub(in crate::serve) max_tokens: Option<usize>,
    constraints: Constraints,
}

impl Loaded {
    /// A model with its engine. `sampling` are the samplers' settings for requests that have none.
    pub fn new(engine: Engine, names: ModelNames, sampling: SamplerParams) -> Loaded {
        let tokenizer = engine.tokenizer();
        let template = engine.model().chat_template(tokenizer).map_err(|error| error.to_string());
        let tools =
            template.as_ref().map(|template| ToolFormat::of(template, tokenizer)).map_err(String::clone);
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Loaded {
            names,
            created: created.map(|time| time.as_secs()).unwrap_or(0),
            template,
            format: AnswerFormat::of(tokenizer),
            tools,
            pooling: Pooling::of(engine.model()).ok(),
            sampling,
            max_tokens: None,
            constraints: Constraints::default(),
            engine,
        }
    }

    /// Limits the tokens of answers whose requests set no limit.
    pub fn limit_answers(&mut self, most: Option<usize>) {
        self.max_tokens = most;
    }

    /// Sets the pooling of embeddings in place of the file's.
    pub fn set_pooling(&mut self, pooling: Pooling) {
        self.pooling = Some(pooling);
    }

    /// Sets the chat template in place of the file's.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn set_template(&mut self, source: &str) -> Result<(), TemplateError> {
        let tokenizer = self.engine.tokenizer();
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let template = ChatTemplate::new(source, text_of(tokenizer.bos()), text_of(tokenizer.eos()))?;
        self.tools = Ok(ToolFormat::of(&template, tokenizer));
        self.format = AnswerFormat::of_template(tokenizer, source);
        self.template = Ok(template);
        Ok(())
    }

    pub(in crate::serve) fn model(&self) -> &Model {
        self.engine.model()
    }

    pub(in crate::serve) fn tokenizer(&self) -> &Tokenizer {
        self.engine.tokenizer()
    }

    pub(in crate::serve) fn template(&self) -> Result<&ChatTemplate, ApiError> {
        self.template.as_ref().map_err(|error| ApiError::invalid("messages", error.clone()))
    }

    /// True if the model has a form of its own for calls of tools.
    pub(in crate::serve) fn calls_tools(&self) -> bool {
        self.tools.as_ref().is_ok_and(|tools| !tools.is_generic())
    }

    /// The form of calls of tools.
    pub(in crate::serve) fn tool_format(&self) -> Result<&ToolFormat, ApiError> {
        self.tools.as_ref().map_err(|error| ApiError::invalid("tools", error.clone()))
    }

    /// The pooling of embeddings.
    pub(in crate::serve) fn pooling(&self) -> Result<Pooling, ApiError> {
        self.pooling.ok_or_else(|| {
            ApiError::invalid("model", "the model's file names a pooling that this server does not have")
        })
    }

    /// A compiled constraint. Compiling may take a second: not on a thread that answers requests.
    pub(in crate::serve) fn constraint(&self, source: &Source, param: &str) -> Result<Constraint, ApiError> {
        let wrong = |error: String| ApiError::invalid(param, error);
        if let Some(kept) = self.constraints.kept(source) {
            return Ok(kept);
        }
        let factory = self.constraints.factory(self.tokenizer()).map_err(|error| wrong(error.to_string()))?;
        let made = match source {
            Source::Schema(text) => factory.json_schema(text).map_err(|error| error.to_string()),
            Source::Grammar(text) => factory.grammar(text).map_err(|error| error.to_string()),
            Source::Calls(tools, choice, parallel) => {
                let made = self.tool_format()?.constraint(&factory, tools, choice, *parallel);
                made.map_err(|error| error.to_string())
            }
        };
        let made = made.map_err(wrong)?;
        self.constraints.keep(source, &made);
        Ok(made)
    }
}

/// The source of a constraint.
#[derive(Clone, Debug)]
pub(in crate::serve) enum Source {
    /// A JSON schema, as JSON text.
    Schema(String),
    /// A grammar: Lark or GBNF.
    Grammar(String),
    /// Calls of these tools, by this choice; `true`: several calls in an answer.
    Calls(Vec<Value>, ToolChoice, bool),
}

impl Source {
    fn hash(&self) -> [u8; 32] {
        let (tag, text) = match self {
            Source::Schema(text) => (b"s", Cow::Borrowed(text)),
            Source::Grammar(text) => (b"g", Cow::Borrowed(text)),
            Source::Calls(tools, choice, parallel) => {
                (b"c", Cow::Owned(format!("{choice:?} {parallel} {}", Value::from(tools.clone()))))
            }
        };
        Sha256::new().chain_update(tag).chain_update(text.as_bytes()).finalize().into()
    }
}

/// Compiled constraints by their sources' hashes, the last used first.
#[derive(Default)]
struct Constraints {
    factory: Mutex<Option<Arc<ConstraintFactory>>>,
    kept: Mutex<VecDeque<([u8; 32], Constraint)>>,
}

impl Constraints {
    /// A compiled constraint that was used before, which becomes the last used.
    fn kept(&self, source: &Source) -> Option<Constraint> {
        let hash = source.hash();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(other, _)| *other == hash)?;
        let found = kept.remove(at)?;
        let constraint = found.1.clone();
        kept.push_front(found);
        Some(constraint)
    }

    fn keep(&self, source: &Source, constraint: &Constraint) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((source.hash(), constraint.clone()));
        kept.truncate(KEPT_CONSTRAINTS);
    }

    fn factory(&self, tokenizer: &Tokenizer) -> Result<Arc<ConstraintFactory>, ConstraintError> {
        let mut factory = self.factory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(factory) = &*factory {
            return Ok(Arc::clone(factory));
        }
        let made = Arc::new(ConstraintFactory::new(tokenizer)?);
        *factory = Some(Arc::clone(&made));
        Ok(made)
    }
}
