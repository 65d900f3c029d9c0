//! `POST /api/embed`, and the older `/api/embeddings`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::{Named, named};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Client, submit_embeddings};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::{Held, Loaded};
use crate::serve::openai::completions::prompts;
use crate::serve::parts::{View, Whole, collect};
use crate::serve::settings::{flag, given, whole};

const NO_PARTS: View = View { thoughts_apart: false, calls_apart: false };

pub(in crate::serve) async fn embed(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let client = Client { path: "/api/embed", ..client };
    let Named { loaded, name, load_time } = named(&app, &body).await?;
    let n_embd = loaded.model().architecture().shape().n_embd;
    let dimensions = whole(&body.0, "dimensions", 1, n_embd as i64)?.unwrap_or(n_embd as i64) as usize;
    let texts = {
        let loaded = Arc::clone(&loaded);
        apart(move || inputs(&body.0, &loaded)).await?
    };
    let embedded = embedded(&app, &loaded, &client, texts).await?;
    let n_tokens: usize = embedded.iter().map(|whole| whole.summary.prompt_tokens).sum();
    let waited: Duration = embedded.iter().map(|whole| whole.summary.queue_time).max().unwrap_or_default();
    let embeddings = embedded.into_iter().map(|whole| {
        let mut values = whole.embedding;
        values.truncate(dimensions);
        crate::model::l2_normalize(&mut values);
        values
    });
    Ok(Json(json!({
        "model": name,
        "embeddings": embeddings.collect::<Vec<_>>(),
        "total_duration": started.elapsed().as_nanos() as u64,
        "load_duration": (load_time + waited).as_nanos() as u64,
        "prompt_eval_count": n_tokens,
    })))
}

/// `input`: a text or a list of texts, which are cut at the context's end unless `truncate` is false.
fn inputs(fields: &Map<String, Value>, loaded: &Loaded) -> Result<Vec<Vec<u32>>, ApiError> {
    let cuts = flag(fields, "truncate")?.unwrap_or(true);
    let input = given(fields, "input").ok_or_else(|| ApiError::invalid("input", "input is missing"))?;
    let is_texts = match input {
        Value::String(_) => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        _ => false,
    };
    if !is_texts {
        return Err(ApiError::invalid("input", "input must be a text or a list of texts"));
    }
    if input.as_array().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let mut texts = prompts(input, loaded.tokenizer(), "input")?;
    if cuts {
        texts.iter_mut().for_each(|tokens| tokens.truncate(loaded.engine.n_ctx()));
    }
    Ok(texts)
}

async fn embedded(
    app: &Arc<App>,
    loaded: &Arc<Held>,
    client: &Client,
    texts: Vec<Vec<u32>>,
) -> Result<Vec<Whole>, ApiError> {
    let pooling = loaded.pooling()?;
    collect(submit_embeddings(app, loaded, client, texts, pooling)?, NO_PARTS).await
}

/// `POST /api/embeddings`: one text, whose embedding is not normalized.
pub(in crate::serve) async fn embed_one(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let client = Client { path: "/api/embeddings", ..client };
    let Named { loaded, .. } = named(&app, &body).await?;
    let texts = {
        let loaded = Arc::clone(&loaded);
        apart(move || match given(&body.0, "prompt") {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(text @ Value::String(_)) => prompts(text, loaded.tokenizer(), "prompt"),
            Some(_) => Err(ApiError::invalid("prompt", "prompt must be a text")),
        })
        .await?
    };
    let embedding = embedded(&app, &loaded, &client, texts).await?.pop().map(|whole| whole.embedding);
    Ok(Json(json!({"embedding": embedding.unwrap_or_default()})))
}
