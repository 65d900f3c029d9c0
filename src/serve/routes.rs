//! The table of routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use super::app::App;
use super::error::ApiError;
use super::{anthropic, guard, openai, page};

type Routes = Router<Arc<App>>;

/// A route under `/v1` and without it, as clients use both.
fn both(router: Routes, path: &str, method: MethodRouter<Arc<App>>) -> Routes {
    router.route(&format!("/v1{path}"), method.clone()).route(path, method)
}

pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, method) in [
        ("/chat/completions", post(openai::chat::answer)),
        ("/chat/completions/input_tokens", post(openai::chat::count)),
        ("/completions", post(openai::completions::answer)),
        ("/embeddings", post(openai::embeddings::embed)),
        ("/messages", post(anthropic::messages::answer)),
        ("/messages/count_tokens", post(anthropic::messages::count)),
        ("/models", get(openai::models::list)),
        ("/models/{id}", get(openai::models::one)),
        ("/responses", post(openai::responses::answer)),
        ("/responses/input_tokens", post(openai::responses::count)),
        ("/responses/{id}", get(openai::responses::get).delete(openai::responses::delete)),
        ("/health", get(health)),
    ] {
        router = both(router, path, method);
    }
    router = router.route("/metrics", get(metrics));
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
    app.models.ready()?;
    Ok(Json(json!({"status": "ok"})).into_response())
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let stats = app.models.ready().ok().map(|loaded| loaded.engine.stats());
    let text = app.metrics.text(stats.as_ref(), app.options.llama_metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
