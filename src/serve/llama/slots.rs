//! `GET /slots`: the requests that are computed now.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Running;
use crate::serve::app::App;
use crate::serve::error::{ApiError, Kind};

#[derive(Debug, Deserialize)]
pub(in crate::serve) struct Asked {
    #[serde(default)]
    fail_on_no_slot: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

pub(in crate::serve) async fn list(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    if !app.options.slots {
        return Err(ApiError::new(Kind::NotSupported, "this server was started without /slots"));
    }
    // A model that is not loaded has no slots.
    let Some(loaded) = app.models.loaded(asked.model.as_deref()).await? else { return Ok(Json(json!([]))) };
    let engine = &loaded.engine;
    let running = engine.running();
    let all = (0..engine.n_sequences()).map(|id| running.iter().find(|running| running.sequence == id));
    let fails = asked.fail_on_no_slot.is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    if fails && all.clone().all(|slot| slot.is_some()) {
        return Err(ApiError::new(Kind::Unavailable, "no slot available"));
    }
    Ok(Json(all.enumerate().map(|(id, running)| slot(id, running, engine.n_ctx())).collect()))
}

/// A slot. Prompts and texts are not shown: they are other clients'.
fn slot(id: usize, running: Option<&Running>, n_ctx: usize) -> Value {
    let decoded = running.map_or(0, |running| running.generated_tokens);
    let most = running.and_then(|running| running.max_tokens);
    json!({
        "id": id,
        "id_task": running.map_or(-1, |running| i64::try_from(running.number).unwrap_or(i64::MAX)),
        "n_ctx": n_ctx,
        "speculative": false,
        "is_processing": running.is_some(),
        "n_prompt_tokens": running.map_or(0, |running| running.prompt_tokens),
        "next_token": [{
            "has_next_token": running.is_some(),
            "n_remain": most.map_or(-1, |most| most.saturating_sub(decoded) as i64),
            "n_decoded": decoded,
        }],
    })
}
