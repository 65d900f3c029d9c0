//! Routes of ollama that this server answers by saying that it lacks them.

use axum::extract::Request;
use axum::http::StatusCode;

use crate::serve::error::{ApiError, Kind};

/// `/api/push`, `create` and `blobs`.
pub(in crate::serve) async fn store(request: Request) -> ApiError {
    let path = request.uri().path().escape_debug().to_string();
    ApiError::new(
        Kind::NotSupported,
        format!("{path} is not supported: this server makes and sends no models"),
    )
}

/// `HEAD /`: ollama's sign of life.
pub(in crate::serve) async fn alive() -> StatusCode {
    StatusCode::OK
}
