//! Bodies of requests: JSON of bounded size and depth, in bounded time.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::app::App;
use super::error::{ApiError, Kind};

/// The JSON object of a body.
pub(super) struct Body(pub Map<String, Value>);

impl Body {
    /// The fields that a type knows; others are ignored.
    ///
    /// # Errors
    /// The first wrong field, by its path.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(Value::Object(self.0.clone()))
    }

    /// The name of the model.
    pub fn model(&self) -> Result<Option<&str>, ApiError> {
        match self.0.get("model") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(ApiError::invalid("model", "model must be a text")),
        }
    }
}

/// A value as a type, with the path of the first wrong field in the error.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = match path.is_empty() {
            true => error.inner().to_string(),
            false => format!("{path}: {}", error.inner()),
        };
        ApiError {
            param: Some(path).filter(|path| !path.is_empty()),
            ..ApiError::new(Kind::Invalid, message)
        }
    })
}

/// [`read`] of a value that stands at this path.
pub(super) fn read_at<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, ApiError> {
    read(value).map_err(|error| {
        let path = error.param.as_ref().map_or(at.to_string(), |param| format!("{at}.{param}"));
        let join = if error.param.is_some() { "." } else { ": " };
        ApiError { param: Some(path), message: format!("{at}{join}{}", error.message), ..error }
    })
}

impl FromRequest<Arc<App>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Body, ApiError> {
        check_type(request.headers())?;
        let most = app.options.max_body;
        let too_large = || ApiError::new(Kind::TooLarge, format!("the body has more than {most} bytes"));
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length > most as u64) {
            return Err(too_large());
        }
        let read = to_bytes(request.into_body(), most);
        let bytes = match tokio::time::timeout(app.options.read_timeout, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => return Err(too_large()),
            Err(_) => return Err(ApiError::new(Kind::Invalid, "the body did not come in time")),
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Body(fields)),
            Ok(_) => Err(ApiError::new(Kind::Invalid, "the body must be a JSON object")),
            Err(error) => Err(ApiError::new(Kind::Invalid, format!("the body is not JSON: {error}"))),
        }
    }
}

/// Refuses bodies that a page of another origin can send without asking first: those of other types, and those without a type
/// if a browser sends them. litellm sends ollama's requests without one.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_of_a_browser = || headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    let is_allowed = match headers.get(header::CONTENT_TYPE) {
        Some(kind) => kind.to_str().is_ok_and(is_json),
        None => !is_of_a_browser(),
    };
    if is_allowed {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::MediaType,
        "the body must be JSON, with the header `Content-Type: application/json` (curl: -H 'Content-Type: application/json')",
    ))
}

/// True for `application/json` and types like `application/ld+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
