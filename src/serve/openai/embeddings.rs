//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::completions::prompts;
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Client, submit_embeddings};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::parts::{View, collect};
use crate::serve::settings::{given, whole};

const NO_PARTS: View = View { thoughts_apart: false, calls_apart: false };

pub(in crate::serve) async fn embed(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let client = Client { path: "/v1/embeddings", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let is_base64 = match given(&body.0, "encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => {
            let message = "encoding_format must be float or base64";
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let n_embd = loaded.model().architecture().shape().n_embd;
    let dimensions = whole(&body.0, "dimensions", 1, n_embd as i64)?.map(|n| n as usize);
    let pooling = loaded.pooling()?;
    let texts = {
        let loaded = Arc::clone(&loaded);
        apart(move || match given(&body.0, "input") {
            Some(input) => prompts(&plain(input), loaded.tokenizer(), "input"),
            None => Err(ApiError::invalid("input", "input is missing")),
        })
        .await?
    };
    let replies = submit_embeddings(&app, &loaded, &client, texts, pooling)?;
    let mut n_tokens = 0;
    let mut data = Vec::new();
    for (index, whole) in collect(replies, NO_PARTS).await?.into_iter().enumerate() {
        n_tokens += whole.summary.prompt_tokens;
        let mut values = whole.embedding;
        values.truncate(dimensions.unwrap_or(values.len()));
        crate::model::l2_normalize(&mut values);
        let embedding = if is_base64 { base64(&values).into() } else { Value::from(values) };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let usage = json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens});
    Ok(Json(json!({"object": "list", "data": data, "model": loaded.names.id, "usage": usage})))
}

/// The input with texts in place of `{"content": [{"type": "text", "text": …}]}`.
pub(in crate::serve) fn plain(input: &Value) -> Value {
    match input {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => match fields.get("content") {
            Some(Value::Array(parts)) => {
                let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
                texts.collect::<Vec<_>>().join("\n").into()
            }
            Some(content) => content.clone(),
            None => input.clone(),
        },
        other => other.clone(),
    }
}

/// The numbers as little-endian f32, in base64.
fn base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
