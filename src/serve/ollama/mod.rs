//! ollama's interface: `chat` and `generate` with their lines (`lines`), `embed`, lists of models (`models`) and their
//! properties (`show`), downloads and deletions (`changes`); `absent` answers for the routes that this server lacks.
//!
//! It knows the shared parts of `serve`, and takes tools and constraints from `openai`, which have the same form here.

pub(super) mod absent;
pub(super) mod changes;
pub(super) mod chat;
pub(super) mod embed;
mod fields;
pub(super) mod generate;
mod lines;
mod messages;
pub(super) mod models;
pub(super) mod show;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::app::App;
use super::body::Body;
use super::error::{ApiError, Kind};
use super::models::{Held, KeepAlive};
use super::settings::given;
use crate::text::strftime;
use fields::keep_alive;

/// The tag of a name that has none.
const LATEST: &str = ":latest";

/// The model that a request names, loaded.
struct Named {
    loaded: Arc<Held>,
    /// The name that the request used.
    name: String,
    /// The time that the request waited for it.
    load_time: Duration,
}

/// The model that a request names, loaded and kept as long as it asks for.
async fn named(app: &App, body: &Body) -> Result<Named, ApiError> {
    let begun = Instant::now();
    let (id, name) = id_of(app, body).await?;
    let loaded = app.models.find_to_keep(Some(&id), keep_alive(&body.0)?).await?;
    Ok(Named { loaded, name, load_time: begun.elapsed() })
}

/// The id of the model that a request names, with the name that it used.
async fn id_of(app: &App, body: &Body) -> Result<(String, String), ApiError> {
    // `name` is the older one.
    let value = ["model", "name"].into_iter().find_map(|name| given(&body.0, name));
    let name = match value.map(|value| value.as_str()) {
        Some(Some(name)) if !name.is_empty() => name,
        None | Some(Some(_)) => return Err(ApiError::invalid("model", "model is required")),
        Some(None) => return Err(ApiError::invalid("model", "model must be a text")),
    };
    Ok((id_of_name(app, name).await?, name.to_string()))
}

/// The id of the model with this name, with or without the tag `latest`.
async fn id_of_name(app: &App, name: &str) -> Result<String, ApiError> {
    let other = match name.strip_suffix(LATEST) {
        Some(name) => name.to_string(),
        None => format!("{name}{LATEST}"),
    };
    let found = match app.models.id_of(Some(name)).await {
        Err(error) if error.kind == Kind::UnknownModel => app.models.id_of(Some(&other)).await,
        found => found,
    };
    found.map_err(|error| match error.kind {
        // Clients look for this text.
        Kind::UnknownModel => ApiError { message: format!("model '{name}' not found"), ..error },
        _ => error,
    })
}

/// Unloads the model of a request without a prompt that keeps it for no time, and returns the name that it used. A model
/// that stays loaded is not unloaded.
async fn unloads(app: &App, body: &Body, is_empty: bool) -> Result<Option<String>, ApiError> {
    if !is_empty || keep_alive(&body.0)? != Some(KeepAlive::For(Duration::ZERO)) {
        return Ok(None);
    }
    let (id, name) = id_of(app, body).await?;
    Ok(app.models.unload(&id).await.then_some(name))
}

/// A moment as in RFC 3339, with microseconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let text = strftime("%Y-%m-%dT%H:%M:%S", seconds).unwrap_or_default();
    format!("{text}.{:06}Z", since.subsec_micros())
}

/// The present moment as in RFC 3339.
fn now() -> String {
    rfc3339(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::rfc3339;

    #[test]
    fn moments_have_all_their_digits() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_796_000_000, 1_234_567);
        assert_eq!(rfc3339(at), "2026-11-30T00:53:20.001234Z");
    }
}
