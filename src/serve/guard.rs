//! The gate for every request: its id, the checks of host, origin and key, the shape of errors.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::ask::Client;
use super::error::{ApiError, Family, Kind};
use super::{ServeOptions, keys};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Paths that need no key: signs of life, and the page, which has no secrets.
fn is_public(path: &str) -> bool {
    matches!(path, "/health" | "/v1/health" | "/openapi.json") || super::page::is_file(path)
}

/// Checks a request, passes it on, and gives errors their shape.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = request_id(&app, request.headers());
    let path = request.uri().path().to_string();
    let family = Family::of(&path);
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_string());
    let mut response = match check(&app, &request) {
        Err(error) => error.into_response(),
        Ok(_) if method == Method::OPTIONS => preflight(),
        Ok(key) => {
            let client = Client { key, request_id: id.clone(), path: "" };
            request.extensions_mut().insert(client);
            next.run(request).await
        }
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        response = error.response(family, &id);
    } else if let Some(kind) = bare_error(response.status(), response.headers()) {
        let message = match kind {
            Kind::NotFound => format!("there is no {method} {path} here"),
            Kind::Method => format!("{path} does not take {method}"),
            _ => "the request failed".to_string(),
        };
        response = ApiError::new(kind, message).response(family, &id);
    }
    app.metrics.http(&method, route.as_deref().unwrap_or("other"), response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
        if family == Family::Anthropic {
            response.headers_mut().insert(HeaderName::from_static("request-id"), id);
        }
    }
    allow_origin(&app.options, origin, response.headers_mut());
    response
}

/// The client's own id if it is harmless, or a made one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_harmless = |id: &&str| id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic());
    given.filter(is_harmless).map_or_else(|| app.unique("req_"), str::to_owned)
}

/// A router's or a library's error without a body of ours.
fn bare_error(status: StatusCode, headers: &HeaderMap) -> Option<Kind> {
    if headers.contains_key(header::CONTENT_TYPE) && status != StatusCode::INTERNAL_SERVER_ERROR {
        return None;
    }
    match status {
        StatusCode::NOT_FOUND => Some(Kind::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => Some(Kind::Method),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Kind::TooLarge),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(Kind::MediaType),
        status if status.is_client_error() => Some(Kind::Invalid),
        status if status.is_server_error() => Some(Kind::Failed),
        _ => None,
    }
}

/// The number of the client's key.
fn check(app: &App, request: &Request) -> Result<Option<usize>, ApiError> {
    let headers = request.headers();
    // Another program on the way might go by the other one.
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(ApiError::new(Kind::Invalid, "the header Host must be there once"));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
    check_host(&app.options, host)?;
    check_origin(&app.options, headers, host)?;
    let is_open = app.options.keys.is_empty() || request.method() == Method::OPTIONS;
    if is_open || is_public(request.uri().path()) {
        return Ok(None);
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| {
        let (scheme, secret) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let own = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    match bearer.or(own).and_then(|secret| keys::find(&app.options.keys, secret)) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::new(
            Kind::NoKey,
            "this server needs a key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
        )),
    }
}

/// The host without its port.
fn host_name(authority: &str) -> Option<String> {
    let parsed: Authority = authority.parse().ok()?;
    Some(parsed.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

/// Refuses names under which a foreign page could have made its visitor's browser call this machine (DNS rebinding).
fn check_host(options: &ServeOptions, host: Option<&str>) -> Result<(), ApiError> {
    let Some(host) = host else { return Err(ApiError::new(Kind::Invalid, "the header Host is missing")) };
    let name = host_name(host).unwrap_or_default();
    // A name in a foreign page's control never is a bare address.
    let is_known = name == "localhost"
        || name.parse::<IpAddr>().is_ok()
        || name == options.host.to_ascii_lowercase()
        || options.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name));
    if is_known {
        return Ok(());
    }
    let name = name.escape_debug();
    Err(ApiError::new(Kind::Forbidden, format!("`{name}` is none of this server's allowed hosts")))
}

/// Refuses requests that a page of another origin sends.
fn check_origin(options: &ServeOptions, headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").map(|(_, authority)| authority);
    if (own.is_some() && own == host) || is_allowed(options, origin) {
        return Ok(());
    }
    let origin = origin.escape_debug();
    Err(ApiError::new(
        Kind::Forbidden,
        format!("`{origin}` is none of the origins whose pages may call this server"),
    ))
}

fn is_allowed(options: &ServeOptions, origin: &str) -> bool {
    options.cors_origins.iter().any(|allowed| allowed == origin)
}

/// Names the origin to the browser if it is allowed. Keys are sent as headers, so that no credentials are.
fn allow_origin(options: &ServeOptions, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    if options.cors_origins.is_empty() {
        return;
    }
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) =
        origin.filter(|origin| origin.to_str().is_ok_and(|origin| is_allowed(options, origin)))
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let allowed =
            "authorization, content-type, x-api-key, x-request-id, anthropic-version, anthropic-beta";
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
        );
    }
}

fn preflight() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
