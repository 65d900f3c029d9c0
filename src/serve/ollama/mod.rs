//! ollama's interface: `chat` and `generate` with their lines (`lines`), `embed`, lists and properties of models
//! (`models`); `absent` answers for the routes that this server lacks.
//!
//! It knows the shared parts of `serve`, and takes tools and constraints from `openai`, which have the same form here.

pub(super) mod absent;
pub(super) mod chat;
pub(super) mod embed;
mod fields;
pub(super) mod generate;
mod lines;
mod messages;
pub(super) mod models;

use std::sync::Arc;
use std::time::SystemTime;

use super::app::App;
use super::body::Body;
use super::error::{ApiError, Kind};
use super::models::Loaded;
use super::settings::given;
use crate::text::strftime;

/// The tag of a name that has none.
const LATEST: &str = ":latest";

/// The model that a request names, with the name that it used.
fn named(app: &App, body: &Body) -> Result<(Arc<Loaded>, String), ApiError> {
    // `name` is the older one.
    let value = ["model", "name"].into_iter().find_map(|name| given(&body.0, name));
    let name = match value.map(|value| value.as_str()) {
        Some(Some(name)) if !name.is_empty() => name,
        None | Some(Some(_)) => return Err(ApiError::invalid("model", "model is required")),
        Some(None) => return Err(ApiError::invalid("model", "model must be a text")),
    };
    let other = match name.strip_suffix(LATEST) {
        Some(name) => name.to_string(),
        None => format!("{name}{LATEST}"),
    };
    let found = app.models.find(Some(name)).or_else(|error| match error.kind {
        Kind::UnknownModel => app.models.find(Some(&other)),
        _ => Err(error),
    });
    let loaded = found.map_err(|error| match error.kind {
        // Clients look for this text.
        Kind::UnknownModel => ApiError { message: format!("model '{name}' not found"), ..error },
        _ => error,
    })?;
    Ok((loaded, name.to_string()))
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
