//! `POST /infill`: the text between a prefix and a suffix.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::completion::respond;
use crate::serve::app::App;
use crate::serve::ask::Client;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::fill::{Beside, FillTokens};
use crate::serve::models::Loaded;

#[derive(Debug, Deserialize)]
struct Fields {
    input_prefix: Option<String>,
    input_suffix: Option<String>,
    #[serde(default)]
    input_extra: Option<Vec<Extra>>,
    /// The beginning of the text to fill in.
    #[serde(default)]
    prompt: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Extra {
    text: String,
    #[serde(default)]
    filename: Option<String>,
}

pub(in crate::serve) async fn answer(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Response, ApiError> {
    let client = Client { path: "/infill", ..client };
    respond(app, client, body, |loaded, body| Ok(vec![prompt(loaded, body)?])).await
}

fn prompt(loaded: &Loaded, body: &Body) -> Result<Vec<u32>, ApiError> {
    let tokens = FillTokens::needed(loaded)?;
    let fields: Fields = body.read()?;
    let missing = |name: &str| ApiError::invalid(name, format!("{name} is missing"));
    let before = fields.input_prefix.ok_or_else(|| missing("input_prefix"))?;
    let after = fields.input_suffix.ok_or_else(|| missing("input_suffix"))?;
    let beside = fields.input_extra.unwrap_or_default().into_iter();
    // The name that llama-server gives to a file without one.
    let beside = beside
        .map(|extra| Beside { name: extra.filename.unwrap_or_else(|| "tmp".to_string()), text: extra.text });
    let beside: Vec<Beside> = beside.collect();
    let begun = fields.prompt.unwrap_or_default();
    Ok(tokens.prompt(loaded.tokenizer(), &before, &after, &beside, &begun))
}
