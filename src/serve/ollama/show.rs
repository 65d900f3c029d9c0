//! `POST /api/show`: the properties of a model, which need not be loaded.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::{id_of, rfc3339};
use crate::model::Model;
use crate::sampling::SamplerParams;
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::body::Body;
use crate::serve::error::{ApiError, Kind};
use crate::serve::fill::FillTokens;
use crate::serve::llama::completion_settings::{number_value, samplers};
use crate::serve::models::{Description, ListedModel, Loaded, of_library};
use crate::serve::openai::models::details;
use crate::serve::settings::flag;
use crate::text::{AnswerFormat, Tokenizer, ToolFormat};

/// A model as this route sees it.
struct Sheet {
    model: Model,
    tokenizer: Tokenizer,
    sampling: SamplerParams,
    /// Known if it is loaded.
    n_ctx: Option<usize>,
    calls_tools: bool,
    thinks: bool,
}

impl Sheet {
    fn of_loaded(loaded: &Loaded) -> Sheet {
        Sheet {
            model: loaded.model().clone(),
            tokenizer: loaded.tokenizer().clone(),
            sampling: loaded.sampling.clone(),
            n_ctx: Some(loaded.engine.n_ctx()),
            calls_tools: loaded.calls_tools(),
            thinks: loaded.format.has_thoughts(),
        }
    }

    /// Not on a thread that answers requests.
    fn of_file(description: Description) -> Result<Sheet, ApiError> {
        let Description { model, sampling } = description;
        let tokenizer = model.tokenizer().map_err(|error| ApiError::from(&error))?;
        let template = model.chat_template(&tokenizer).ok();
        let tools = template.map(|template| ToolFormat::of(&template, &tokenizer));
        Ok(Sheet {
            calls_tools: tools.is_some_and(|tools| !tools.is_generic()),
            thinks: AnswerFormat::of(&tokenizer).has_thoughts(),
            n_ctx: None,
            model,
            tokenizer,
            sampling,
        })
    }
}

pub(in crate::serve) async fn show(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let (id, _) = id_of(&app, &body).await?;
    let verbose = flag(&body.0, "verbose")?.unwrap_or(false);
    let shown = app.models.shown_by_id(&id).await?;
    apart(move || {
        let sheet = match (shown.loaded(), app.models.library()) {
            (Some(loaded), _) => Sheet::of_loaded(loaded),
            (None, Some(library)) => {
                Sheet::of_file(library.describe(&id).map_err(|error| of_library(&id, error))?)?
            }
            (None, None) => return Err(ApiError::new(Kind::Unavailable, "Loading model")),
        };
        Ok(Json(properties(&shown.listed, &sheet, verbose)))
    })
    .await
}

fn properties(listed: &ListedModel, sheet: &Sheet, verbose: bool) -> Value {
    let parameters = parameters(sheet);
    let modelfile = parameters.lines().map(|line| format!("PARAMETER {line}\n"));
    json!({
        "modelfile": format!("FROM {}\n{}", listed.names.id, modelfile.collect::<String>()),
        "parameters": parameters,
        "template": sheet.tokenizer.chat_template().unwrap_or_default(),
        "details": details(listed),
        "model_info": info(listed, &sheet.model, verbose),
        "capabilities": capabilities(sheet),
        "modified_at": rfc3339(listed.modified),
    })
}

/// The context's size and the samplers' settings, a line each.
fn parameters(sheet: &Sheet) -> String {
    let mut text = sheet.n_ctx.map_or_else(String::new, |n_ctx| format!("num_ctx {n_ctx}\n"));
    for (name, value) in samplers(&sheet.sampling) {
        if value.is_number() && name != "seed" {
            text += &format!("{name} {value}\n");
        }
    }
    text
}

/// Abilities, as clients ask for them. A model counts as one of embeddings if its file says how to pool: clients take
/// such a model for one that cannot chat.
fn capabilities(sheet: &Sheet) -> Vec<&'static str> {
    let metadata = sheet.model.gguf().metadata();
    let pooling = format!("{}.pooling_type", sheet.model.architecture_name());
    let all = [
        ("completion", true),
        ("tools", sheet.calls_tools),
        ("thinking", sheet.thinks),
        ("insert", FillTokens::of(&sheet.model, &sheet.tokenizer).is_some()),
        ("embedding", metadata.get(&pooling).is_some()),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// The file's metadata. Lists are left out unless the request is verbose.
fn info(listed: &ListedModel, model: &Model, verbose: bool) -> Map<String, Value> {
    let metadata = model.gguf().metadata();
    let keys = metadata.iter().map(|(key, _)| key);
    let mut info: Map<String, Value> =
        keys.map(|key| (key.to_string(), value(model, key, verbose))).collect();
    info.insert("general.parameter_count".into(), listed.parameters.into());
    info
}

fn value(model: &Model, key: &str, verbose: bool) -> Value {
    let metadata = model.gguf().metadata();
    if let Ok(Some(text)) = metadata.opt_str(key) {
        return text.into();
    }
    if let Ok(Some(number)) = metadata.opt_i64(key) {
        return number.into();
    }
    if let Ok(Some(number)) = metadata.opt_u64(key) {
        return number.into();
    }
    if let Ok(Some(number)) = metadata.opt_f32(key) {
        return number_value(number);
    }
    if let Ok(Some(flag)) = metadata.opt_bool(key) {
        return flag.into();
    }
    match verbose {
        true => list(model, key),
        false => Value::Null,
    }
}

fn list(model: &Model, key: &str) -> Value {
    let metadata = model.gguf().metadata();
    if let Ok(Some(texts)) = metadata.opt_strings(key) {
        return texts.iter().collect();
    }
    if let Ok(Some(numbers)) = metadata.opt_i32s(key) {
        return numbers.iter().copied().collect();
    }
    match metadata.opt_f32s(key) {
        Ok(Some(numbers)) => numbers.iter().copied().collect(),
        _ => Value::Null,
    }
}
