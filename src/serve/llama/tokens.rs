//! `POST /tokenize`, `/detokenize` and `/apply-template`: text, tokens and conversations without an answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::openai::chat::conversation_of;
use crate::serve::settings::{flag, given};
use crate::text::{EncodeOptions, Tokenizer};

pub(in crate::serve) async fn tokenize(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    apart(move || {
        let options = EncodeOptions {
            add_special: flag(&body.0, "add_special")?.unwrap_or(false),
            parse_special: flag(&body.0, "parse_special")?.unwrap_or(true),
        };
        let with_pieces = flag(&body.0, "with_pieces")?.unwrap_or(false);
        let tokenizer = loaded.tokenizer();
        let ids = match given(&body.0, "content") {
            Some(content) => content_tokens(content, tokenizer, options)?,
            None => Vec::new(),
        };
        let entry = |id: u32| match with_pieces {
            true => json!({"id": id, "piece": piece(tokenizer, id)}),
            false => id.into(),
        };
        Ok(Json(json!({"tokens": ids.into_iter().map(entry).collect::<Vec<Value>>()})))
    })
    .await
}

/// The tokens of a text, or of texts and tokens one after the other.
fn content_tokens(
    content: &Value,
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<Vec<u32>, ApiError> {
    let items = match content {
        Value::Array(items) => &items[..],
        single => std::slice::from_ref(single),
    };
    let mut ids = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(text) => {
                let add_special = options.add_special && i == 0;
                ids.extend(tokenizer.encode(text, EncodeOptions { add_special, ..options }));
            }
            None => ids.push(token(item, tokenizer, "content")?),
        }
    }
    Ok(ids)
}

/// A token's id, which must be one of the vocabulary.
pub(in crate::serve) fn token(value: &Value, tokenizer: &Tokenizer, name: &str) -> Result<u32, ApiError> {
    let n = tokenizer.n_vocab();
    match value.as_u64().filter(|&id| id < n as u64) {
        Some(id) => Ok(id as u32),
        None => Err(ApiError::invalid(
            name,
            format!("{name}: there is no token {value}; the vocabulary has the tokens 0 to {}", n - 1),
        )),
    }
}

/// A token's text, or its bytes if they are only a part of a character.
fn piece(tokenizer: &Tokenizer, id: u32) -> Value {
    let bytes = tokenizer.token_bytes(id);
    std::str::from_utf8(bytes).map_or_else(|_| bytes.into(), Value::from)
}

pub(in crate::serve) async fn detokenize(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    apart(move || {
        let tokenizer = loaded.tokenizer();
        let ids = match given(&body.0, "tokens") {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let ids = items.iter().map(|item| token(item, tokenizer, "tokens"));
                ids.collect::<Result<_, _>>()?
            }
            Some(_) => return Err(ApiError::invalid("tokens", "tokens must be a list of tokens")),
        };
        Ok(Json(json!({"content": tokenizer.decode(&ids, true)})))
    })
    .await
}

pub(in crate::serve) async fn apply_template(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let loaded = app.models.find(body.model()?).await?;
    apart(move || {
        let conversation = conversation_of(&body)?;
        Ok(Json(json!({"prompt": conversation.render(&loaded)?})))
    })
    .await
}
