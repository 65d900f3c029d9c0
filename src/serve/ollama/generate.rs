//! `POST /api/generate`: an answer to a prompt without a conversation.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::fields::{format, no_images, settings, streams, think};
use super::lines::{Form, LinesAsk, bare_line, respond};
use super::{named, unloads};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Ask, Client};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::fill::FillTokens;
use crate::serve::llama::tokens::token;
use crate::serve::models::Loaded;
use crate::serve::parts::View;
use crate::serve::prompt::Conversation;
use crate::serve::settings::{flag, given};
use crate::text::{EncodeOptions, Message};

/// Fields that would change the prompt or the answer and are not supported.
const UNSUPPORTED: [&str; 4] = ["template", "width", "height", "steps"];

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/api/generate", ..client };
    if let Some(name) = unloads(&app, &body, is_empty(&body)).await? {
        return Ok(bare_line(&name, &Form::Generate { context: None }, "unload"));
    }
    let named = named(&app, &body).await?;
    let asked = {
        let (app, loaded, name) = (Arc::clone(&app), Arc::clone(&named.loaded), named.name.clone());
        apart(move || read(&app, &loaded, &name, &body)).await?
    };
    match asked {
        Some(ask) => respond(&app, named, &client, ask).await,
        None => Ok(bare_line(&named.name, &Form::Generate { context: None }, "load")),
    }
}

/// True for a request without a prompt.
fn is_empty(body: &Body) -> bool {
    ["prompt", "suffix"].iter().all(|name| given(&body.0, name).is_none_or(|text| text == ""))
}

/// The texts of a request.
struct Texts<'b> {
    prompt: &'b str,
    suffix: &'b str,
    system: &'b str,
    raw: bool,
    /// Tokens of the conversation so far.
    context: Vec<u32>,
}

impl Texts<'_> {
    fn read<'b>(body: &'b Body, loaded: &Loaded) -> Result<Texts<'b>, ApiError> {
        let text = |name: &str| match given(&body.0, name).map(Value::as_str) {
            None => Ok(""),
            Some(Some(text)) => Ok(text),
            Some(None) => Err(ApiError::invalid(name, format!("{name} must be a text"))),
        };
        let context = match given(&body.0, "context") {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let ids = items.iter().map(|item| token(item, loaded.tokenizer(), "context"));
                ids.collect::<Result<_, _>>()?
            }
            Some(_) => return Err(ApiError::invalid("context", "context must be a list of tokens")),
        };
        let raw = flag(&body.0, "raw")?.unwrap_or(false);
        Ok(Texts { prompt: text("prompt")?, suffix: text("suffix")?, system: text("system")?, raw, context })
    }
}

/// Reads a request. `None`: it only asks to load the model.
fn read(app: &App, loaded: &Loaded, name: &str, body: &Body) -> Result<Option<LinesAsk>, ApiError> {
    let fields = &body.0;
    for unsupported in UNSUPPORTED {
        if given(fields, unsupported).is_some_and(|value| value != "" && value != 0) {
            return Err(ApiError::unsupported(unsupported, "leave it out"));
        }
    }
    no_images(fields.get("images"), "images")?;
    let settings = settings(fields, app, loaded)?;
    let texts = Texts::read(body, loaded)?;
    let variables = think(fields, loaded, name)?;
    let source = format(fields)?;
    let streams = streams(fields)?;
    if texts.prompt.is_empty() && texts.suffix.is_empty() {
        return Ok(None);
    }
    let constraint = match source {
        Some(source) => Some(loaded.constraint(&source, "format")?),
        None => None,
    };
    let is_plain = texts.raw || !texts.suffix.is_empty();
    if is_plain && !(texts.system.is_empty() && texts.context.is_empty()) {
        let message = "raw prompts and prompts with a suffix have no system text and no context";
        return Err(ApiError::invalid("raw", message));
    }
    let view = View { thoughts_apart: true, calls_apart: false };
    if is_plain {
        let ask = Ask { constraint, ..Ask::plain(plain_prompt(loaded, name, &texts)?, settings) };
        return Ok(Some(LinesAsk { ask, view, streams, form: Form::Generate { context: None } }));
    }
    let prompt = prompt(loaded, &texts, variables)?;
    let parser = Some(loaded.format.parser(&prompt));
    let form = Form::Generate { context: Some(prompt.clone()) };
    let ask = Ask { parser, constraint, ..Ask::plain(prompt, settings) };
    Ok(Some(LinesAsk { ask, view, streams, form }))
}

/// The prompt without a template.
fn plain_prompt(loaded: &Loaded, name: &str, texts: &Texts<'_>) -> Result<Vec<u32>, ApiError> {
    let tokenizer = loaded.tokenizer();
    if texts.suffix.is_empty() {
        return Ok(tokenizer.encode(texts.prompt, EncodeOptions { add_special: true, parse_special: true }));
    }
    match FillTokens::of(loaded.model(), tokenizer) {
        Some(tokens) => Ok(tokens.prompt(tokenizer, texts.prompt, texts.suffix, &[], "")),
        None => Err(ApiError::invalid("suffix", format!("\"{name}\" does not support insert"))),
    }
}

/// The prompt as the user's message, after the conversation so far.
fn prompt(
    loaded: &Loaded,
    texts: &Texts<'_>,
    variables: serde_json::Map<String, Value>,
) -> Result<Vec<u32>, ApiError> {
    let tokenizer = loaded.tokenizer();
    let system = (!texts.system.is_empty()).then(|| Message::new("system", texts.system));
    let messages = system.into_iter().chain([Message::new("user", texts.prompt)]).collect();
    let conversation = Conversation { messages, variables, opens_answer: true, ..Conversation::default() };
    let mut turn = conversation.encode(loaded)?;
    if texts.context.is_empty() {
        return Ok(turn);
    }
    if tokenizer.adds_bos() && turn.first() == tokenizer.bos().as_ref() {
        turn.remove(0);
    }
    Ok(texts.context.iter().copied().chain(turn).collect())
}
