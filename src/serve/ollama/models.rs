//! `GET /api/version`, `/api/tags`, `/api/ps` and `POST /api/show`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{named, rfc3339};
use crate::serve::app::App;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::fill::FillTokens;
use crate::serve::llama::completion_settings::samplers;
use crate::serve::models::Loaded;
use crate::serve::openai::models::{details, size};
use crate::serve::settings::flag;

/// The version of ollama whose interface this is: clients refuse older ones by number.
const VERSION: &str = "0.12.11";

pub(in crate::serve) async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

pub(in crate::serve) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.ready()?;
    let mut model = entry(&loaded);
    model["modified_at"] = modified(&loaded);
    Ok(Json(json!({ "models": [model] })))
}

pub(in crate::serve) async fn ps(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.ready()?;
    let mut model = entry(&loaded);
    // The server keeps its model.
    model["expires_at"] = "9999-12-31T23:59:59Z".into();
    model["context_length"] = loaded.engine.n_ctx().into();
    Ok(Json(json!({ "models": [model] })))
}

fn entry(loaded: &Loaded) -> Value {
    json!({
        "name": loaded.names.id,
        "model": loaded.names.id,
        "size": size(loaded).1,
        "digest": digest(loaded),
        "details": details(loaded),
    })
}

fn modified(loaded: &Loaded) -> Value {
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(loaded.created)).into()
}

/// A number in ollama's form for the model's name and tensors. It is no checksum of the file, which would take long.
fn digest(loaded: &Loaded) -> String {
    let mut hash = Sha256::new().chain_update(&loaded.names.id);
    for tensor in loaded.model().gguf().tensors() {
        hash.update(&tensor.name);
        hash.update(tensor.bytes.to_le_bytes());
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(in crate::serve) async fn show(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let (loaded, _) = named(&app, &body)?;
    let verbose = flag(&body.0, "verbose")?.unwrap_or(false);
    let parameters = parameters(&loaded);
    let modelfile = parameters.lines().map(|line| format!("PARAMETER {line}\n"));
    Ok(Json(json!({
        "modelfile": format!("FROM {}\n{}", loaded.names.id, modelfile.collect::<String>()),
        "parameters": parameters,
        "template": loaded.tokenizer().chat_template().unwrap_or_default(),
        "details": details(&loaded),
        "model_info": info(&loaded, verbose),
        "capabilities": capabilities(&loaded),
        "modified_at": modified(&loaded),
    })))
}

/// The context's size and the samplers' settings, a line each.
fn parameters(loaded: &Loaded) -> String {
    let mut text = format!("num_ctx {}\n", loaded.engine.n_ctx());
    for (name, value) in samplers(&loaded.sampling) {
        if value.is_number() && name != "seed" {
            text += &format!("{name} {value}\n");
        }
    }
    text
}

/// Abilities, as clients ask for them. A model counts as one of embeddings if its file says how to pool: clients take
/// such a model for one that cannot chat.
fn capabilities(loaded: &Loaded) -> Vec<&'static str> {
    let metadata = loaded.model().gguf().metadata();
    let pooling = format!("{}.pooling_type", loaded.model().architecture_name());
    let all = [
        ("completion", true),
        ("tools", loaded.calls_tools()),
        ("thinking", loaded.format.has_thoughts()),
        ("insert", FillTokens::of(loaded).is_some()),
        ("embedding", metadata.get(&pooling).is_some()),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// The file's metadata. Lists are left out unless the request is verbose.
fn info(loaded: &Loaded, verbose: bool) -> Map<String, Value> {
    let metadata = loaded.model().gguf().metadata();
    let keys = metadata.iter().map(|(key, _)| key);
    let mut info: Map<String, Value> =
        keys.map(|key| (key.to_string(), value(loaded, key, verbose))).collect();
    info.insert("general.parameter_count".into(), size(loaded).0.into());
    info
}

fn value(loaded: &Loaded, key: &str, verbose: bool) -> Value {
    let metadata = loaded.model().gguf().metadata();
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
        return crate::serve::llama::completion_settings::number_value(number);
    }
    if let Ok(Some(flag)) = metadata.opt_bool(key) {
        return flag.into();
    }
    match verbose {
        true => list(loaded, key),
        false => Value::Null,
    }
}

fn list(loaded: &Loaded, key: &str) -> Value {
    let metadata = loaded.model().gguf().metadata();
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
