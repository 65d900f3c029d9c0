//! Routes of llama-server that this server answers by saying that it lacks them.

use axum::Json;
use serde_json::{Value, json};

use crate::serve::error::{ApiError, Kind};

fn lacks(message: &str) -> ApiError {
    ApiError::new(Kind::NotSupported, message)
}

/// `POST /rerank`, `/reranking`, `/v1/rerank` and `/v1/reranking`.
pub(in crate::serve) async fn rerank() -> ApiError {
    lacks("this server does not rerank documents: it has no models with rank pooling")
}

/// `GET /lora-adapters`: there are none.
pub(in crate::serve) async fn adapters() -> Json<Value> {
    Json(json!([]))
}

/// `POST /lora-adapters`.
pub(in crate::serve) async fn set_adapters() -> ApiError {
    lacks("this server has no LoRA adapters to scale")
}

/// `POST /props`.
pub(in crate::serve) async fn set_props() -> ApiError {
    lacks("this server's properties cannot be changed while it runs")
}

/// `POST /slots/{id}`.
pub(in crate::serve) async fn slot_action() -> ApiError {
    lacks("this server does not save, restore or erase slots: requests share computed prefixes without it")
}
