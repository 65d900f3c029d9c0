//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::serve::app::App;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;

pub(in crate::serve) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.ready()?;
    // The second list is for clients that also speak ollama's interface.
    let named = json!({
        "name": loaded.names.id,
        "model": loaded.names.id,
        "capabilities": ["completion"],
        "details": details(&loaded),
    });
    Ok(Json(json!({"object": "list", "data": [entry(&loaded)], "models": [named]})))
}

pub(in crate::serve) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(entry(&*app.models.find(Some(&id))?)))
}

fn entry(loaded: &Loaded) -> Value {
    let model = loaded.model();
    let shape = model.architecture().shape();
    let (n_params, size) = size(loaded);
    json!({
        "id": loaded.names.id,
        "object": "model",
        "created": loaded.created,
        "owned_by": "rfgraph",
        "aliases": loaded.names.aliases,
        "tags": [],
        "max_model_len": loaded.engine.n_ctx(),
        "status": {"value": "loaded"},
        "meta": {
            "n_vocab": shape.n_vocab,
            "n_ctx": loaded.engine.n_ctx(),
            "n_ctx_train": shape.n_ctx_train,
            "n_embd": shape.n_embd,
            "n_params": n_params,
            "size": size,
        },
    })
}

/// Parameters, and bytes of the tensors.
pub(in crate::serve) fn size(loaded: &Loaded) -> (u64, u64) {
    let gguf = loaded.model().gguf();
    let numbers = gguf.tensors().iter().map(|tensor| (tensor.shape.elements() as u64, tensor.bytes as u64));
    numbers.fold((0, 0), |(n, bytes), (more, further)| (n + more, bytes + further))
}

/// ollama's `details`.
pub(in crate::serve) fn details(loaded: &Loaded) -> Value {
    let family = loaded.model().architecture_name();
    let (n_params, _) = size(loaded);
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": parameters(n_params),
        "quantization_level": "",
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
