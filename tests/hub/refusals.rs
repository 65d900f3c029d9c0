//! Refusals by a server, redirects, and the token.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rfgraph::hub::{HubError, HubOptions, Token};

use crate::repository::{Cache, Repository, bytes};
use crate::server::{Reply, Server};

const BEARER: Option<&str> = Some("Bearer hf_secret");

#[test]
fn the_token_does_not_follow_to_another_host() {
    let cache = Cache::new();
    let repo = Repository::with_bytes(9000);
    let other = Server::start(move |_| Reply::new(200, bytes(9000)));
    let to = format!("{}/content?signature=abc", other.address);
    let server = repo.serve(move |request, reply| match request.is_for_a_file() {
        true => Reply::new(302, "").header("Location", to.as_str()),
        false => reply,
    });
    cache.pull(&server, "user/repo").unwrap();
    assert!(server.requests().iter().all(|request| request.header("authorization") == BEARER));
    let [request] = &other.requests()[..] else { panic!("{:?}", other.requests()) };
    assert_eq!((request.path.as_str(), request.header("authorization")), ("/content?signature=abc", None));
}

#[test]
fn the_token_does_not_follow_a_next_page_to_another_host() {
    let other = Server::start(|_| Reply::new(200, "[]"));
    let next = format!("<{}/more>; rel=\"next\"", other.address);
    let server =
        Repository::with_bytes(9).serve(move |request, reply| match request.path.contains("/tree/") {
            true => reply.header("Link", next.as_str()),
            false => reply,
        });
    Cache::new().pull(&server, "user/repo").unwrap();
    assert_eq!(other.requests()[0].header("authorization"), None);
}

#[test]
fn the_token_follows_on_the_same_host() {
    let repo = Repository::with_bytes(9000);
    let server =
        repo.serve(|request, reply| match request.is_for_a_file() && !request.path.ends_with("?moved") {
            true => Reply::new(307, "").header("Location", format!("{}?moved", request.path)),
            false => reply,
        });
    Cache::new().pull(&server, "user/repo").unwrap();
    let files = server.file_requests();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|request| request.header("authorization") == BEARER));
}

#[test]
fn redirects_without_end_or_target_are_refused() {
    for (location, said) in
        [(Some("/again"), "without end"), (None, "leads nowhere"), (Some("file:///etc/passwd"), "not HTTP")]
    {
        let server = Server::start(move |_| match location {
            Some(location) => Reply::new(302, "").header("Location", location),
            None => Reply::new(302, ""),
        });
        let error = Cache::new().pull(&server, "user/repo").unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(server.requests().len() < 12);
    }
}

#[test]
fn busy_servers_are_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let count = AtomicUsize::new(0);
        let server = Repository::with_bytes(9000).serve(move |_, reply| {
            // Every second request.
            if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                Reply::new(status, "")
            } else {
                reply
            }
        });
        Cache::new().pull(&server, "user/repo").unwrap();
        assert_eq!(server.requests().len(), 6, "{status}");
    }
    let server = Server::start(|_| Reply::new(503, ""));
    let error = Cache::new().pull(&server, "user/repo").unwrap_err();
    assert!(matches!(error, HubError::Status { status: 503, .. }), "{error}");
    assert_eq!(server.requests().len(), 3, "the attempts are counted");
}

#[test]
fn retry_after_is_obeyed_if_it_is_short() {
    let count = AtomicUsize::new(0);
    let server =
        Repository::with_bytes(9000).serve(move |_, reply| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::new(429, "").header("Retry-After", "1"),
            _ => reply,
        });
    let start = Instant::now();
    Cache::new().pull(&server, "user/repo").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let server = Server::start(|_| Reply::new(429, "").header("Retry-After", "86400"));
    let error = Cache::new().pull(&server, "user/repo").unwrap_err().to_string();
    assert!(error.contains("429") && error.contains("try again in 86400 s"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn refusals_say_address_status_and_remedy() {
    let anonymous = |cache: &Cache, server: &Server| HubOptions { token: None, ..cache.options(server) };
    for (status, has_token, remedy) in [
        (401, false, "set HF_TOKEN to a token"),
        (401, true, "the token of HF_TOKEN is not valid"),
        (403, false, "accept its terms at ADDRESS/user/repo, and set HF_TOKEN"),
        (403, true, "accept the model's terms at ADDRESS/user/repo"),
        (404, true, "check the spelling"),
    ] {
        let server = Server::start(move |_| Reply::new(status, r#"{"error": "no\u0007 way"}"#));
        let cache = Cache::new();
        let options = if has_token { cache.options(&server) } else { anonymous(&cache, &server) };
        let error = rfgraph::hub::pull(&"user/repo".parse().unwrap(), &options, &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        let error = error.unwrap_err().to_string();
        let remedy = remedy.replace("ADDRESS", &server.address);
        let url = format!("{}/api/models/user/repo/revision/main", server.address);
        assert!(error.starts_with(&format!("{url} answered {status}: no way; ")), "{error}");
        assert!(error.contains(&remedy) && !error.contains("secret"), "{error}");
        assert_eq!(server.requests().len(), 1, "{status} is not asked again");
        assert_eq!(server.requests()[0].header("authorization").is_some(), has_token);
    }
}

#[test]
fn an_expired_link_is_renewed_and_its_signature_not_shown() {
    let count = AtomicUsize::new(0);
    let other = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(403, "expired"),
        _ => Reply::new(200, bytes(9000)),
    });
    let to = format!("{}/content?signature=abc", other.address);
    let serve = |to: String| {
        Repository::with_bytes(9000).serve(move |request, reply| match request.is_for_a_file() {
            true => Reply::new(302, "").header("Location", to.as_str()),
            false => reply,
        })
    };
    let server = serve(to);
    Cache::new().pull(&server, "user/repo").unwrap();
    assert_eq!(server.file_requests().len(), 2);
    let never = Server::start(|_| Reply::new(403, "expired"));
    let error = Cache::new().pull(&serve(format!("{}/content?signature=abc", never.address)), "user/repo");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("/content answered 403") && !error.contains("signature"), "{error}");
}

#[test]
fn no_server_is_an_error_with_the_address() {
    let cache = Cache::new();
    let server = Server::start(|_| Reply::new(200, ""));
    for (endpoint, said) in [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/api/models/user/repo/revision/main cannot be read"),
        ("huggingface.co", "HF_ENDPOINT cannot be used"),
        ("ftp://x", "HF_ENDPOINT cannot be used"),
        ("https://me:pass@x", "HF_ENDPOINT cannot be used"),
    ] {
        let options = HubOptions { endpoint: endpoint.into(), ..cache.options(&server) };
        let error = rfgraph::hub::pull(&"user/repo".parse().unwrap(), &options, &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains("pass"), "{error}");
    }
    let options = HubOptions { token: Token::new("hf_sec\nret"), ..cache.options(&server) };
    let error = rfgraph::hub::pull(&"user/repo".parse().unwrap(), &options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN cannot be used") && !error.contains("hf_sec"), "{error}");
}
