//! Errors of requests: their status, and their shape in each family of interfaces.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine::EngineError;
use crate::model::ModelError;
use crate::text::TemplateError;

/// A kind of error. It decides status and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    ContextTooSmall { n_prompt: usize, n_ctx: usize },
    NoKey,
    Forbidden,
    NotFound,
    UnknownModel,
    Method,
    TooLarge,
    MediaType,
    Busy,
    Failed,
    NotSupported,
    Unavailable,
}

/// A kind's status, its type and code for OpenAI's clients, its type for Anthropic's.
type Row = (StatusCode, &'static str, Option<&'static str>, &'static str);

impl Kind {
    fn row(self) -> Row {
        use StatusCode as S;
        const INVALID: &str = "invalid_request_error";
        match self {
            Kind::Invalid => (S::BAD_REQUEST, INVALID, None, INVALID),
            Kind::ContextTooSmall { .. } => {
                (S::BAD_REQUEST, "exceed_context_size_error", Some("context_length_exceeded"), INVALID)
            }
            Kind::NoKey => {
                (S::UNAUTHORIZED, "authentication_error", Some("invalid_api_key"), "authentication_error")
            }
            Kind::Forbidden => (S::FORBIDDEN, "permission_error", None, "permission_error"),
            Kind::NotFound => (S::NOT_FOUND, "not_found_error", None, "not_found_error"),
            Kind::UnknownModel => {
                (S::NOT_FOUND, "not_found_error", Some("model_not_found"), "not_found_error")
            }
            Kind::Method => (S::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed"), INVALID),
            Kind::TooLarge => (S::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large"), "request_too_large"),
            Kind::MediaType => (S::UNSUPPORTED_MEDIA_TYPE, INVALID, None, INVALID),
            Kind::Busy => {
                (S::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"), "rate_limit_error")
            }
            Kind::Failed => (S::INTERNAL_SERVER_ERROR, "server_error", None, "api_error"),
            Kind::NotSupported => (S::NOT_IMPLEMENTED, "not_supported_error", None, "api_error"),
            Kind::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable_error", None, "overloaded_error"),
        }
    }

    pub fn status(self) -> StatusCode {
        self.row().0
    }
}

/// A family of interfaces, whose errors have one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Family {
    /// The family of a path.
    pub fn of(path: &str) -> Family {
        match path {
            _ if path == "/api" || path.starts_with("/api/") => Family::Ollama,
            _ if path.starts_with("/v1/messages") || path.starts_with("/messages") => Family::Anthropic,
            _ => Family::OpenAi,
        }
    }
}

/// An error of a request.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub kind: Kind,
    pub message: String,
    /// The field that is wrong.
    pub param: Option<String>,
}

impl ApiError {
    pub fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), param: None }
    }

    /// A field with a wrong value.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.into()), ..ApiError::new(Kind::Invalid, message) }
    }

    /// A field whose value this server does not support.
    pub fn unsupported(param: &str, wanted: &str) -> ApiError {
        ApiError::invalid(param, format!("{param} is not supported; {wanted}"))
    }

    /// The body of the error.
    pub fn body(&self, family: Family, request_id: &str) -> Value {
        let (_, kind, code, anthropic) = self.kind.row();
        let message = &self.message;
        match family {
            Family::OpenAi => {
                let mut error = json!({"message": message, "type": kind, "param": self.param, "code": code});
                if let Kind::ContextTooSmall { n_prompt, n_ctx } = self.kind {
                    error["n_prompt_tokens"] = n_prompt.into();
                    error["n_ctx"] = n_ctx.into();
                }
                json!({ "error": error })
            }
            Family::Anthropic => {
                json!({"type": "error", "error": {"type": anthropic, "message": message}, "request_id": request_id})
            }
            Family::Ollama => json!({ "error": message }),
        }
    }

    /// The response with the error's body.
    pub fn response(&self, family: Family, request_id: &str) -> Response {
        let body = self.body(family, request_id).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self.kind, Kind::Busy | Kind::Unavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An empty response that carries the error: `guard` knows the family and writes the body.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        match &error {
            EngineError::Busy { .. } => ApiError::new(Kind::Busy, error.to_string()),
            EngineError::Model(model) => ApiError::from(&**model),
            EngineError::Stopped { .. } => ApiError::new(Kind::Unavailable, error.to_string()),
            _ => ApiError::new(Kind::Failed, error.to_string()),
        }
    }
}

impl From<&ModelError> for ApiError {
    fn from(error: &ModelError) -> ApiError {
        match *error {
            // Clients look for "exceeds the available context size" and for "context length".
            ModelError::ContextFull { wanted, n_ctx, .. } => ApiError::new(
                Kind::ContextTooSmall { n_prompt: wanted, n_ctx },
                format!(
                    "the prompt has {wanted} tokens, which exceeds the available context size: the context length \
                     is {n_ctx} tokens"
                ),
            ),
            ModelError::Token { .. }
            | ModelError::NoTokens { .. }
            | ModelError::EmptyStopString
            | ModelError::Sampling(_) => ApiError::new(Kind::Invalid, error.to_string()),
            _ => ApiError::new(Kind::Failed, error.to_string()),
        }
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> ApiError {
        ApiError::invalid("messages", error.to_string())
    }
}
