//! `GET /api/version`, `/api/tags` and `/api/ps`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rfc3339;
use crate::serve::app::App;
use crate::serve::error::ApiError;
use crate::serve::models::ListedModel;
use crate::serve::openai::models::details;

/// The version of ollama whose interface this is: clients refuse older ones by number.
const VERSION: &str = "0.12.11";

pub(in crate::serve) async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

pub(in crate::serve) async fn tags(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let models = app.models.list().await?.into_iter().map(|shown| {
        let mut model = entry(&shown.listed);
        model["modified_at"] = rfc3339(shown.listed.modified).into();
        model
    });
    Ok(Json(json!({ "models": models.collect::<Value>() })))
}

pub(in crate::serve) async fn ps(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let models = app.models.list().await?.into_iter().filter_map(|shown| {
        let loaded = shown.loaded()?;
        let mut model = entry(&shown.listed);
        model["expires_at"] = shown.expires.map_or("9999-12-31T23:59:59Z".into(), rfc3339).into();
        model["context_length"] = loaded.engine.n_ctx().into();
        Some(model)
    });
    Ok(Json(json!({ "models": models.collect::<Value>() })))
}

fn entry(listed: &ListedModel) -> Value {
    json!({
        "name": listed.names.id,
        "model": listed.names.id,
        "size": listed.bytes,
        "digest": digest(&[&listed.names.id, &listed.bytes.to_string()]),
        "details": details(listed),
    })
}

/// A number in ollama's form for a model. It is no checksum of the file, which would take long.
pub(super) fn digest(texts: &[&str]) -> String {
    let hash = texts.iter().fold(Sha256::new(), |hash, text| hash.chain_update(text).chain_update([0]));
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
