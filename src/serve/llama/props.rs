//! `GET /props`: the server's sizes, its settings for requests that have none, and its chat template.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::completion_settings::defaults;
use crate::serve::app::App;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::openai::chat::fingerprint;

pub(in crate::serve) async fn show(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.ready()?;
    let tokenizer = loaded.tokenizer();
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": loaded.engine.n_ctx(), "params": defaults(&loaded)},
        "total_slots": loaded.engine.n_sequences(),
        "model_alias": loaded.names.id,
        "model_path": file_name(&loaded),
        "chat_template": tokenizer.chat_template().unwrap_or_default(),
        "chat_template_caps": {"supports_tools": loaded.calls_tools()},
        "modalities": {"vision": false, "audio": false},
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "build_info": fingerprint(),
        "is_sleeping": false,
    })))
}

/// The file's name. Its folder is the business of who runs the server, not of clients.
fn file_name(loaded: &Loaded) -> String {
    let name = loaded.model().gguf().paths().next().and_then(Path::file_name);
    name.map_or_else(|| loaded.names.id.clone(), |name| name.to_string_lossy().into_owned())
}
