//! The table of routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use super::app::App;
use super::error::ApiError;
use super::{anthropic, guard, llama, ollama, openai, page};

type Routes = Router<Arc<App>>;

/// A path, its methods with a line on each (`GET Something | POST Another thing`), and its handlers. `/openapi.json` is made
/// of these rows.
type Row = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// A route under `/v1` and without it, as clients use both.
fn both(router: Routes, path: &str, method: MethodRouter<Arc<App>>) -> Routes {
    router.route(&format!("/v1{path}"), method.clone()).route(path, method)
}

/// llama-server's own routes.
fn llama_routes() -> [Row; 12] {
    use llama::{absent, completion, embedding, infill, props, slots, tokens};
    [
        ("/apply-template", "POST The prompt of a conversation as text", post(tokens::apply_template)),
        ("/completion", "POST Continue a text", post(completion::answer)),
        ("/completions", "POST Continue a text", post(completion::answer)),
        ("/detokenize", "POST The text of tokens", post(tokens::detokenize)),
        ("/embedding", "POST Vectors of texts", post(embedding::embed)),
        ("/embeddings", "POST Vectors of texts", post(embedding::embed)),
        ("/infill", "POST Fill the middle between two texts", post(infill::answer)),
        (
            "/lora-adapters",
            "GET The adapters: always none | POST Change adapters: not supported",
            get(absent::adapters).post(absent::set_adapters),
        ),
        (
            "/props",
            "GET Properties of the server and its model | POST Change properties: not supported",
            get(props::show).post(absent::set_props),
        ),
        ("/slots", "GET The requests that are computed", get(slots::list)),
        ("/slots/{id}", "POST Save, restore or erase a slot: not supported", post(absent::slot_action)),
        ("/tokenize", "POST The tokens of a text", post(tokens::tokenize)),
    ]
}

/// ollama's routes.
fn ollama_routes() -> [Row; 15] {
    use ollama::{absent, changes, chat, embed, generate, models, show};
    [
        ("/", "HEAD A sign of life", head(absent::alive)),
        (
            "/api/blobs/{digest}",
            "POST Store a file: not supported | HEAD Ask for a stored file: not supported",
            post(absent::store).head(absent::store),
        ),
        ("/api/chat", "POST Answer a conversation", post(chat::answer)),
        ("/api/copy", "POST Give a model another name", post(changes::copy)),
        ("/api/create", "POST Create a model: not supported", post(absent::store)),
        ("/api/delete", "DELETE Delete a model", delete(changes::delete)),
        ("/api/embed", "POST Vectors of texts", post(embed::embed)),
        ("/api/embeddings", "POST The vector of a text", post(embed::embed_one)),
        ("/api/generate", "POST Continue a prompt", post(generate::answer)),
        ("/api/ps", "GET The loaded models", get(models::ps)),
        ("/api/pull", "POST Download a model", post(changes::pull)),
        ("/api/push", "POST Upload a model: not supported", post(absent::store)),
        ("/api/show", "POST Facts of a model", post(show::show)),
        ("/api/tags", "GET The models", get(models::tags)),
        ("/api/version", "GET The version", get(models::version)),
    ]
}

/// Routes that are there under `/v1` and without it, as clients use both.
fn shared_routes() -> [Row; 14] {
    [
        ("/chat/completions", "POST Answer a conversation", post(openai::chat::answer)),
        (
            "/chat/completions/input_tokens",
            "POST Count the tokens of a conversation",
            post(openai::chat::count),
        ),
        ("/messages", "POST Answer a conversation", post(anthropic::messages::answer)),
        (
            "/messages/count_tokens",
            "POST Count the tokens of a conversation",
            post(anthropic::messages::count),
        ),
        ("/models", "GET The models", get(openai::models::list)),
        ("/models/load", "POST Load a model", post(openai::models::load)),
        ("/models/unload", "POST Unload a model", post(openai::models::unload)),
        ("/models/{*id}", "GET A model", get(openai::models::one)),
        ("/responses", "POST Answer a conversation, which may be kept", post(openai::responses::answer)),
        (
            "/responses/input_tokens",
            "POST Count the tokens of a conversation",
            post(openai::responses::count),
        ),
        (
            "/responses/{id}",
            "GET A kept response | DELETE Forget a kept response",
            get(openai::responses::get).delete(openai::responses::delete),
        ),
        ("/health", "GET A sign of life, once the model is loaded", get(health)),
        ("/rerank", "POST Order documents: not supported", post(llama::absent::rerank)),
        ("/reranking", "POST Order documents: not supported", post(llama::absent::rerank)),
    ]
}

/// Routes of no family, and those that have llama-server's own form without `/v1`.
fn own_routes() -> [Row; 4] {
    [
        ("/metrics", "GET Counters and histograms, in the text form of Prometheus", get(metrics)),
        ("/v1/completions", "POST Continue prompts", post(openai::completions::answer)),
        ("/v1/embeddings", "POST Vectors of texts", post(openai::embeddings::embed)),
        ("/openapi.json", "GET This description", get(openapi)),
    ]
}

/// The paths with descriptions of their methods. OpenAPI has no sign for a parameter of several segments.
pub(super) fn described() -> Vec<(String, &'static str)> {
    let plain = own_routes().into_iter().chain(llama_routes()).chain(ollama_routes());
    let plain = plain.map(|(path, methods, _)| (path.to_owned(), methods));
    let shared = shared_routes().into_iter();
    let shared =
        shared.flat_map(|(path, methods, _)| [(format!("/v1{path}"), methods), (path.to_owned(), methods)]);
    let written = |(path, methods): (String, &'static str)| (path.replace("{*", "{"), methods);
    shared.chain(plain).map(written).collect()
}

pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, _, method) in shared_routes() {
        router = both(router, path, method);
    }
    for (path, _, method) in own_routes().into_iter().chain(llama_routes()).chain(ollama_routes()) {
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

async fn openapi(State(app): State<Arc<App>>) -> Json<Value> {
    Json(super::openapi::document(&described(), &app.options))
}

async fn health(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.models.check_ready()?;
    Ok(Json(json!({"status": "ok"})).into_response())
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(&app.models.stats(), app.options.llama_metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
