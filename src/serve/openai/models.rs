//! `GET /v1/models` and `GET /v1/models/{id}`; llama-server's `POST /models/load` and `/models/unload`.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::serve::app::App;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::{ListedModel, Shown, Status};

pub(in crate::serve) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let all = app.models.list().await?;
    let data: Value = all.iter().map(entry).collect();
    // The second list is for clients that also speak ollama's interface.
    let named = all.iter().map(|shown| {
        let id = &shown.listed.names.id;
        json!({"name": id, "model": id, "capabilities": ["completion"], "details": details(&shown.listed)})
    });
    Ok(Json(json!({"object": "list", "data": data, "models": named.collect::<Value>()})))
}

pub(in crate::serve) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(entry(&app.models.shown(&name).await?)))
}

/// Answers when the model is loaded.
pub(in crate::serve) async fn load(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    app.models.find(Some(named(&body)?)).await?;
    Ok(Json(json!({"success": true})))
}

/// Answers when the model is unloaded, or at once if it still answers.
pub(in crate::serve) async fn unload(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let id = app.models.id_of(Some(named(&body)?)).await?;
    match app.models.unload(&id).await {
        true => Ok(Json(json!({"success": true}))),
        false => {
            Err(ApiError::invalid("model", format!("`{id}` stays loaded: the server was started with it")))
        }
    }
}

fn named(body: &Body) -> Result<&str, ApiError> {
    let name = body.model()?.filter(|name| !name.is_empty());
    name.ok_or_else(|| ApiError::invalid("model", "model is missing"))
}

fn entry(shown: &Shown) -> Value {
    let Shown { listed, .. } = shown;
    let created = listed.modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let n_ctx = shown.loaded().map(|loaded| loaded.engine.n_ctx());
    let mut meta = json!({
        "n_ctx": n_ctx,
        "n_ctx_train": listed.n_ctx_train,
        "n_params": listed.parameters,
        "size": listed.bytes,
    });
    if let Some(loaded) = shown.loaded() {
        let shape = loaded.model().architecture().shape();
        meta["n_vocab"] = shape.n_vocab.into();
        meta["n_embd"] = shape.n_embd.into();
    }
    json!({
        "id": listed.names.id,
        "object": "model",
        "created": created,
        "owned_by": "rfgraph",
        "aliases": listed.names.aliases,
        "tags": [],
        "max_model_len": n_ctx,
        "status": status(&shown.status),
        "meta": meta,
    })
}

fn status(status: &Status) -> Value {
    match status {
        Status::Unloaded => json!({"value": "unloaded"}),
        Status::Loading => json!({"value": "loading"}),
        Status::Loaded(_) => json!({"value": "loaded"}),
        Status::Failed(reason) => json!({"value": "failed", "failed": true, "reason": reason}),
    }
}

/// ollama's `details`.
pub(in crate::serve) fn details(listed: &ListedModel) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": listed.architecture,
        "families": [listed.architecture],
        "parameter_size": parameters(listed.parameters),
        "quantization_level": listed.format,
    })
}

/// A number of parameters such as `8.0B`.
fn parameters(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}
