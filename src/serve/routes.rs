//! The table of routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, post};
use axum::{Json, Router};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use super::app::App;
use super::error::ApiError;
use super::{anthropic, guard, llama, ollama, openai, page};

type Routes = Router<Arc<App>>;

/// A path with its handlers.
type Row = (&'static str, MethodRouter<Arc<App>>);

/// A route under `/v1` and without it, as clients use both.
fn both(router: Routes, path: &str, method: MethodRouter<Arc<App>>) -> Routes {
    router.route(&format!("/v1{path}"), method.clone()).route(path, method)
}

/// llama-server's own routes.
fn llama_routes() -> [Row; 12] {
    use llama::{absent, completion, embedding, infill, props, slots, tokens};
    [
        ("/apply-template", post(tokens::apply_template)),
        ("/completion", post(completion::answer)),
        ("/completions", post(completion::answer)),
        ("/detokenize", post(tokens::detokenize)),
        ("/embedding", post(embedding::embed)),
        ("/embeddings", post(embedding::embed)),
        ("/infill", post(infill::answer)),
        ("/lora-adapters", get(absent::adapters).post(absent::set_adapters)),
        ("/props", get(props::show).post(absent::set_props)),
        ("/slots", get(slots::list)),
        ("/slots/{id}", post(absent::slot_action)),
        ("/tokenize", post(tokens::tokenize)),
    ]
}

/// ollama's routes.
fn ollama_routes() -> [Row; 15] {
    use ollama::{absent, changes, chat, embed, generate, models, show};
    [
        ("/", head(absent::alive)),
        ("/api/blobs/{digest}", post(absent::store).head(absent::store)),
        ("/api/chat", post(chat::answer)),
        ("/api/copy", post(changes::copy)),
        ("/api/create", post(absent::store)),
        ("/api/delete", delete(changes::delete)),
        ("/api/embed", post(embed::embed)),
        ("/api/embeddings", post(embed::embed_one)),
        ("/api/generate", post(generate::answer)),
        ("/api/ps", get(models::ps)),
        ("/api/pull", post(changes::pull)),
        ("/api/push", post(absent::store)),
        ("/api/show", post(show::show)),
        ("/api/tags", get(models::tags)),
        ("/api/version", get(models::version)),
    ]
}

pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, method) in [
        ("/chat/completions", post(openai::chat::answer)),
        ("/chat/completions/input_tokens", post(openai::chat::count)),
        ("/messages", post(anthropic::messages::answer)),
        ("/messages/count_tokens", post(anthropic::messages::count)),
        ("/models", get(openai::models::list)),
        ("/models/load", post(openai::models::load)),
        ("/models/unload", post(openai::models::unload)),
        ("/models/{*id}", get(openai::models::one)),
        ("/responses", post(openai::responses::answer)),
        ("/responses/input_tokens", post(openai::responses::count)),
        ("/responses/{id}", get(openai::responses::get).delete(openai::responses::delete)),
        ("/health", get(health)),
        ("/rerank", post(llama::absent::rerank)),
        ("/reranking", post(llama::absent::rerank)),
    ] {
        router = both(router, path, method);
    }
    for (path, method) in [
        ("/metrics", get(metrics)),
        // These two have llama-server's own form without `/v1`.
        ("/v1/completions", post(openai::completions::answer)),
        ("/v1/embeddings", post(openai::embeddings::embed)),
    ]
    .into_iter()
    .chain(llama_routes())
    .chain(ollama_routes())
    {
        router = router.route(path, method);
    }
    if app.options.page {
        for path in page::paths() {
            router = router.route(&path, get(asset));
        }
    }
    router
        // A panic of a handler ends its request, and nothing else.
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    page::file(uri.path(), &headers)
}

async fn health(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.models.check_ready()?;
    Ok(Json(json!({"status": "ok"})).into_response())
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(&app.models.stats(), app.options.llama_metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
