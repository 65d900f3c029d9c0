//! Answers that try to write elsewhere, or to fill memory or disk.

use std::fs;

use rfgraph::hub::HubError;
use serde_json::json;

use crate::repository::{Cache, Repository};
use crate::server::{Reply, Server};

/// A server whose tree has this entry.
fn with_entry(entry: serde_json::Value) -> Server {
    Repository::with_bytes(9).serve(move |request, reply| match request.path.contains("/tree/") {
        true => Reply::new(200, json!([entry]).to_string()),
        false if request.is_for_a_file() => Reply::new(200, "x"),
        false => reply,
    })
}

fn lfs(oid: &str, size: u64) -> serde_json::Value {
    json!({"oid": oid, "size": size, "pointerSize": 1})
}

#[test]
fn names_that_leave_the_cache_are_refused() {
    for path in [
        "../x.gguf",
        "../../../x.gguf",
        "a/../../x.gguf",
        "/tmp/x.gguf",
        "a//x.gguf",
        "./x.gguf",
        "a\\..\\x.gguf",
        "C:x.gguf",
        "a\u{0}x.gguf",
        "a\nx.gguf",
        &format!("{}.gguf", "x".repeat(300)),
    ] {
        let outer = tempfile::tempdir().unwrap();
        let server =
            with_entry(json!({"type": "file", "path": path, "size": 1, "lfs": lfs(&"a".repeat(64), 1)}));
        let cache = Cache::new();
        let mut options = cache.options(&server);
        options.cache = outer.path().join("a/b/c/cache");
        let error = rfgraph::hub::pull(&"user/repo".parse().unwrap(), &options, &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        assert!(matches!(error, Err(HubError::Answer { .. })), "{path:?}: {error:?}");
        assert!(!error.unwrap_err().to_string().contains(['\n', '\0']));
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0, "{path:?}");
        assert!(server.file_requests().is_empty());
    }
}

#[test]
fn commits_and_checksums_that_are_paths_are_refused() {
    for oid in ["../../x", "", "A", &"g".repeat(64), &"a".repeat(63)] {
        let server = with_entry(json!({"type": "file", "path": "x.gguf", "size": 1, "lfs": lfs(oid, 1)}));
        let error = Cache::new().pull(&server, "user/repo").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{oid}: {error}");
        let server = with_entry(json!({"type": "file", "path": "x.gguf", "size": 1, "oid": oid}));
        let error = Cache::new().pull(&server, "user/repo").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{oid}: {error}");
    }
    for sha in ["../../..", "main", ""] {
        let server = Server::start(move |_| Reply::new(200, json!({"sha": sha}).to_string()));
        let error = Cache::new().pull(&server, "user/repo").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{sha}: {error}");
    }
}

#[test]
fn a_file_larger_than_the_disk_is_refused_before_it_is_asked_for() {
    let server = with_entry(
        json!({"type": "file", "path": "x.gguf", "size": 1, "lfs": lfs(&"a".repeat(64), 1 << 60)}),
    );
    let error = Cache::new().pull(&server, "user/repo").unwrap_err();
    assert!(matches!(error, HubError::Space { needed, .. } if needed == 1 << 60), "{error}");
    assert!(server.file_requests().is_empty());
}

#[test]
fn answers_that_are_no_listing_are_refused() {
    for body in ["<html>", "", "[1]", "{\"sha\": 3}"] {
        let server = Server::start(move |_| Reply::new(200, body));
        let error = Cache::new().pull(&server, "user/repo").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
    }
}

#[test]
fn an_answer_of_17_mib_is_refused() {
    let server = Repository::with_bytes(9).serve(|request, reply| match request.path.contains("/tree/") {
        true => Reply::new(200, [reply.body, vec![b' '; 17 << 20]].concat()),
        false => reply,
    });
    let error = Cache::new().pull(&server, "user/repo").unwrap_err().to_string();
    assert!(error.contains("larger than 16 MiB"), "{error}");
}
