//! `GET /props`: the server's sizes, its settings for requests that have none, and its chat template.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::completion_settings::defaults;
use crate::serve::app::App;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::openai::chat_ask::fingerprint;

#[derive(Debug, Default, Deserialize)]
pub(in crate::serve) struct Asked {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    autoload: Option<String>,
}

/// With a name: the properties of this model, which is loaded for that unless `autoload` is false. Without: those of the
/// only model, or of a server of several; nothing is loaded.
pub(in crate::serve) async fn show(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let name = asked.model.as_deref().filter(|name| !name.is_empty());
    let loads = !matches!(asked.autoload.as_deref(), Some("false" | "0"));
    if name.is_some() && loads {
        return Ok(Json(of_model(&*app.models.find(name).await?)));
    }
    if name.is_none() && app.models.list().await?.len() != 1 {
        return Ok(Json(json!({
            "role": "router",
            "max_instances": app.models.most(),
            "models_autoload": true,
            "build_info": fingerprint(),
        })));
    }
    let id = app.models.id_of(name).await?;
    Ok(Json(match app.models.loaded(Some(&id)).await? {
        Some(loaded) => of_model(&loaded),
        None => json!({"model_alias": id, "build_info": fingerprint(), "is_sleeping": true}),
    }))
}

fn of_model(loaded: &Loaded) -> Value {
    let tokenizer = loaded.tokenizer();
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
    json!({
        "default_generation_settings": {"n_ctx": loaded.engine.n_ctx(), "params": defaults(loaded)},
        "total_slots": loaded.engine.n_sequences(),
        "model_alias": loaded.names.id,
        "model_path": file_name(loaded),
        "chat_template": tokenizer.chat_template().unwrap_or_default(),
        "chat_template_caps": {"supports_tools": loaded.calls_tools()},
        "modalities": {"vision": false, "audio": false},
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "build_info": fingerprint(),
        "is_sleeping": false,
    })
}

/// The file's name. Its folder is the business of who runs the server, not of clients.
fn file_name(loaded: &Loaded) -> String {
    let name = loaded.model().gguf().paths().next().and_then(Path::file_name);
    name.map_or_else(|| loaded.names.id.clone(), |name| name.to_string_lossy().into_owned())
}
