//! Work that must not keep the threads that answer requests.

use super::error::{ApiError, Kind};

/// Runs work that may take long on a thread that may wait.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(Kind::Failed, "preparing the request failed")),
    }
}
