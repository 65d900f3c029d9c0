//! Access control, and hostile clients.

use std::time::{Duration, Instant};

use rfgraph::serve::{ApiKey, ServeError, ServeOptions, Server};
use serde_json::json;

use crate::client::{Connection, JSON, SHARED, engine_options, get, post_to, request, start};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"messages":[{"role":"user","content":"What is 347 + 285?"}],"temperature":0}"#;

#[test]
fn an_open_address_needs_a_key() {
    let open = || ServeOptions { host: "0.0.0.0".into(), port: 0, ..ServeOptions::default() };
    assert!(matches!(Server::start(open()), Err(ServeError::Open { .. })));
    let with_key = ServeOptions { keys: vec![ApiKey::new("a", "secret")], ..open() };
    Server::start(with_key).unwrap().stop();
    Server::start(ServeOptions { insecure: true, ..open() }).unwrap().stop();
}

#[test]
fn a_key_is_asked_for() {
    let keys = vec![ApiKey::new("a", "secret"), ApiKey::new("b", "other")];
    let server = start(ServeOptions { keys, ..ServeOptions::default() }, engine_options());
    let status = |path: &str, headers: &str| request(server.address(), "GET", path, headers, "").status;
    for headers in
        ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic secret\r\n", "x-api-key: secre\r\n"]
    {
        assert_eq!(status("/v1/models", headers), 401, "{headers}");
        assert_eq!(status("/metrics", headers), 401, "{headers}");
        assert_eq!(status("/nothing", headers), 401, "no route is told apart");
    }
    for headers in
        ["Authorization: Bearer secret\r\n", "authorization: bearer other\r\n", "X-Api-Key: secret\r\n"]
    {
        assert_eq!(status("/v1/models", headers), 200, "{headers}");
    }
    assert_eq!(status("/health", ""), 200);
    let error = request(server.address(), "GET", "/v1/models", "", "").json(401);
    assert_eq!(error["error"]["type"], "authentication_error");
    // Prefixes are not shared between keys.
    let filler = "Tom and Sue like the big red ball. ".repeat(6);
    let body = json!({"messages": [{"role": "user", "content": filler}], "max_tokens": 1}).to_string();
    let cached = |key: &str| {
        let headers = format!("{JSON}x-api-key: {key}\r\n");
        let answer = request(server.address(), "POST", CHAT, &headers, &body).json(200);
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!((cached("secret"), cached("other")), (0, 0));
    assert!(cached("secret") > 0);
    server.stop();
}

#[test]
fn foreign_names_and_origins_are_refused() {
    for (headers, status) in [
        ("Host: localhost\r\n", 200),
        ("Host: localhost:1234\r\n", 200),
        ("Host: 127.0.0.1:80\r\n", 200),
        ("Host: [::1]:80\r\n", 200),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost.evil.example\r\n", 403),
        ("Host: localhost:1\r\nOrigin: http://localhost:1\r\n", 200),
        ("Host: localhost:1\r\nOrigin: http://localhost:2\r\n", 403),
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        let response = request(*SHARED, "GET", "/v1/models", headers, "");
        assert_eq!(response.status, status, "{headers}");
        assert_eq!(response.header("access-control-allow-origin"), None);
        let posted = request(*SHARED, "POST", CHAT, &format!("{headers}{JSON}"), BODY);
        assert_eq!(posted.status, status, "{headers}");
    }
    let options = ServeOptions {
        cors_origins: vec!["https://chat.example".into()],
        allowed_hosts: vec!["box.example".into()],
        ..ServeOptions::default()
    };
    let server = start(options, engine_options());
    let headers = "Host: box.example\r\nOrigin: https://chat.example\r\n";
    for method in ["GET", "OPTIONS"] {
        let response = request(server.address(), method, "/v1/models", headers, "");
        assert_eq!(response.header("access-control-allow-origin"), Some("https://chat.example"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
    }
    server.stop();
}

#[test]
fn bodies_must_be_json_of_bounded_size_and_depth() {
    for headers in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        // A browser sends bytes of a page without a type.
        "Host: localhost\r\nOrigin: http://localhost\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(request(*SHARED, "POST", CHAT, headers, BODY).status, 415, "{headers}");
    }
    assert_eq!(request(*SHARED, "POST", CHAT, "", BODY).status, 200);
    let charset = "Content-Type: application/json; charset=utf-8\r\n";
    assert_eq!(request(*SHARED, "POST", CHAT, charset, BODY).status, 200);
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "[]", "{", "null", "\u{feff}{}", &deep] {
        let error = request(*SHARED, "POST", CHAT, JSON, body).json(400);
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
    let server = start(ServeOptions { max_body: 1000, ..ServeOptions::default() }, engine_options());
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(2000)}]});
    let error = post_to(server.address(), CHAT, &long).json(413);
    assert_eq!(error["error"]["code"], "request_too_large");
    // Also if the length is not said before.
    let mut connection = Connection::open(server.address());
    connection.write(
        format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n")
            .as_bytes(),
    );
    connection.write(format!("7d0\r\n{}\r\n0\r\n\r\n", " ".repeat(2000)).as_bytes());
    assert_eq!(connection.receive().status, 413);
    server.stop();
}

#[test]
fn errors_have_their_familys_shape() {
    let missing = get("/v1/nothing");
    assert_eq!(missing.json(404)["error"]["type"], "not_found_error");
    assert_eq!(missing.header("content-type"), Some("application/json"));
    assert_eq!(request(*SHARED, "DELETE", CHAT, "", "").json(405)["error"]["code"], "method_not_allowed");
    let ollama = request(*SHARED, "GET", "/api/nothing", "", "").json(404);
    assert!(ollama["error"].is_string());
    let anthropic = request(*SHARED, "GET", "/v1/messages/nothing", "x-request-id: mine\r\n", "").json(404);
    assert_eq!(anthropic["type"], "error");
    assert_eq!(anthropic["error"]["type"], "not_found_error");
    assert_eq!(anthropic["request_id"], "mine");
    let echoed = request(*SHARED, "GET", "/health", "x-request-id: abc-1\r\n", "");
    assert_eq!(echoed.header("x-request-id"), Some("abc-1"));
    let replaced = request(*SHARED, "GET", "/health", "x-request-id: a\u{7f}b\r\n", "");
    assert!(replaced.header("x-request-id").is_none_or(|id| id.starts_with("req_")));
}

/// Half-sent headers and bodies take a connection each, until their time is over, and nothing else.
#[test]
fn slow_clients_do_not_stop_others() {
    let read_timeout = Duration::from_secs(2);
    let options = ServeOptions { max_connections: 250, read_timeout, ..ServeOptions::default() };
    let server = start(options, engine_options());
    let mut slow: Vec<Connection> = (0..200).map(|_| Connection::open(server.address())).collect();
    slow.iter_mut().for_each(|connection| connection.write(b"GET /health HTTP/1.1\r\nHost: loc"));
    let mut half = Connection::open(server.address());
    half.write(
        format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 500\r\n\r\n{{").as_bytes(),
    );
    let start = Instant::now();
    assert_eq!(request(server.address(), "GET", "/health", "", "").status, 200);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(half.receive().status, 400);
    // With all places taken a client waits until the slow ones are thrown out.
    let more: Vec<Connection> = (0..80).map(|_| Connection::open(server.address())).collect();
    assert_eq!(request(server.address(), "GET", "/health", "", "").status, 200);
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(more);
    server.stop();
}

#[test]
fn a_loading_server_says_so() {
    let server = Server::start(ServeOptions { port: 0, ..ServeOptions::default() }).unwrap();
    let response = request(server.address(), "GET", "/health", "", "");
    assert_eq!(response.json(503)["error"]["message"], "Loading model");
    assert!(response.header("retry-after").is_some());
    assert_eq!(request(server.address(), "POST", CHAT, JSON, BODY).status, 503);
    server.set_model(Err("the disk is full".into()));
    let failed = request(server.address(), "GET", "/health", "", "").json(503);
    assert!(failed["error"]["message"].as_str().unwrap().contains("the disk is full"));
    server.stop();
}
