//! Downloads that go well: layout, sharing, stopping, offline.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rfgraph::hub::{Event, HubError, HubOptions, pull};

use crate::repository::{COMMIT, Cache, Repository, bytes, sha256};
use crate::server::{Reply, Server};

#[test]
fn a_download_has_the_layout_of_the_shared_cache() {
    let (repo, cache) =
        (Repository::of(&[("sub/m-Q4_K_M.gguf", &bytes(5000)), ("README.md", b"x")]), Cache::new());
    let digits = sha256(&repo.files[0].1);
    let server = repo.serve(|_, reply| reply);
    let pulled = cache.pull(&server, "user/repo").unwrap();
    assert_eq!((pulled.name.as_str(), pulled.bytes, pulled.downloaded), ("user/repo:Q4_K_M", 5000, 1));
    assert_eq!(pulled.path, cache.snapshot().join("sub/m-Q4_K_M.gguf"));
    assert_eq!(fs::read(&pulled.path).unwrap(), bytes(5000));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&pulled.path).unwrap(), Path::new(&format!("../../../blobs/{digits}")));
    assert_eq!(fs::read_to_string(cache.repo().join("refs/main")).unwrap(), COMMIT);
    let prefix = "models--user--repo";
    let expected = [
        format!("{prefix}/blobs/{digits}"),
        format!("{prefix}/refs/main"),
        format!("{prefix}/snapshots/{COMMIT}/sub/m-Q4_K_M.gguf"),
    ];
    assert_eq!(cache.files(), expected);
    // Where Hugging Face's programs have their locks.
    assert!(cache.path().join(format!(".locks/{prefix}/{digits}.lock")).exists());
}

#[test]
fn files_that_are_there_are_not_downloaded_again() {
    let (repo, cache) = (Repository::with_bytes(5000), Cache::new());
    let server = repo.clone().serve(|_, reply| reply);
    cache.pull(&server, "user/repo").unwrap();
    let again = cache.pull(&server, "hf.co/user/repo:q4_k_m").unwrap();
    assert_eq!((again.downloaded, server.file_requests().len()), (0, 1));
    // A content with another length is not the file.
    fs::write(repo.blob(&cache), "x").unwrap();
    assert_eq!(cache.pull(&server, "user/repo").unwrap().downloaded, 1);
    assert_eq!(fs::read(again.path).unwrap(), bytes(5000));
}

#[test]
fn a_new_commit_with_the_same_content_is_a_second_name() {
    let (repo, cache) = (Repository::with_bytes(5000), Cache::new());
    let server = repo.clone().serve(|_, reply| reply);
    let first = cache.pull(&server, "user/repo").unwrap();
    let next = Repository { commit: "f".repeat(40), ..repo }.serve(|_, reply| reply);
    let second = cache.pull(&next, "user/repo").unwrap();
    assert_eq!((second.downloaded, next.file_requests().len()), (0, 0));
    assert!(first.path != second.path && first.path.is_file() && second.path.is_file());
    assert_eq!(fs::read_to_string(cache.repo().join("refs/main")).unwrap(), "f".repeat(40));
}

#[test]
fn files_in_git_itself_are_checked_too() {
    let content = b"small";
    // git hash-object of a file with this content.
    let oid = "0477d9aa1bd6e2c5b0ae2b8a2b0d5b9a4ddb8b5d";
    let answers = |sent: &'static [u8], oid: String| {
        Repository::of(&[("m.gguf", content)]).serve(move |request, reply| {
            if request.path.contains("/tree/") {
                let tree = serde_json::json!([{"type": "file", "path": "m.gguf", "oid": oid, "size": content.len()}]);
                return Reply::new(200, tree.to_string());
            }
            if request.is_for_a_file() { Reply::new(200, sent) } else { reply }
        })
    };
    let cache = Cache::new();
    let error = cache.pull(&answers(b"SMALL", git_oid(content)), "user/repo").unwrap_err();
    assert!(matches!(error, HubError::Checksum { .. }), "{error}");
    assert!(cache.pull(&answers(content, git_oid(content)), "user/repo").is_ok());
    assert!(Cache::new().pull(&answers(content, oid.into()), "user/repo").is_err());
}

/// As git computes it, by git itself.
fn git_oid(content: &[u8]) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut git = Command::new("git");
    let git = git.args(["hash-object", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut git = git.spawn().unwrap();
    git.stdin.take().unwrap().write_all(content).unwrap();
    String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap().trim().into()
}

#[test]
fn two_downloads_of_one_file_at_once_fetch_it_once() {
    let cache = Cache::new();
    let server = Repository::with_bytes(20_000).serve(|request, reply| match request.is_for_a_file() {
        true => Reply { pace: Duration::from_millis(20), ..reply },
        false => reply,
    });
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let both = [0, 1].map(|_| {
            scope.spawn(|| {
                start.wait();
                cache.pull(&server, "user/repo").unwrap()
            })
        });
        let both = both.map(|one| one.join().unwrap());
        assert_eq!(both[0].downloaded + both[1].downloaded, 1);
        assert_eq!(fs::read(&both[0].path).unwrap(), bytes(20_000));
    });
    assert_eq!(server.file_requests().len(), 1);
}

#[test]
fn a_stopped_download_keeps_what_it_has() {
    let (repo, cache) = (Repository::with_bytes(2 << 20), Cache::new());
    let server = repo.clone().serve(|_, reply| reply);
    let mut seen = 0;
    let error = pull(&"user/repo".parse().unwrap(), &cache.options(&server), &mut |event| match event {
        Event::Bytes { done, total } if done > 1000 && total == 2 << 20 => {
            seen = done;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(error, Err(HubError::Stopped)), "{error:?}");
    assert!(!repo.blob(&cache).exists());
    let part = fs::metadata(repo.blob(&cache).with_extension("part")).unwrap().len();
    assert_eq!(part, seen);
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(server.file_requests()[1].header("range").unwrap(), format!("bytes={seen}-"));
    assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(2 << 20));
}

#[test]
fn a_stop_ends_a_pause_between_attempts() {
    let cache = Cache::new();
    let server = Server::start(|_| Reply::new(503, ""));
    let options = HubOptions { pause: Duration::from_secs(50), ..cache.options(&server) };
    let mut asked = 0;
    let error = pull(&"user/repo".parse().unwrap(), &options, &mut |_| {
        asked += 1;
        if asked > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(HubError::Stopped)), "{error:?}");
}

#[test]
fn offline_takes_what_is_there_and_asks_nobody() {
    let cache = Cache::new();
    let server = Repository::with_bytes(5000).serve(|_, reply| reply);
    let options = HubOptions { offline: true, ..cache.options(&server) };
    let offline = |name: &str| pull(&name.parse().unwrap(), &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(offline("user/repo"), Err(HubError::Offline { .. })));
    assert!(server.requests().is_empty());
    let there = cache.pull(&server, "user/repo").unwrap();
    let asked = server.requests().len();
    assert_eq!(offline("user/repo").unwrap().path, there.path);
    assert!(matches!(offline("user/repo:Q8_0"), Err(HubError::Offline { .. })));
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_listing_of_several_pages_is_read_whole() {
    let repo = Repository::of(&[("m-Q8_0.gguf", &bytes(10)), ("m-Q4_K_M.gguf", &bytes(20))]);
    let tree = repo.tree();
    let server = repo.serve(move |request, reply| {
        let page = |i: usize| Reply::new(200, serde_json::json!([tree[i]]).to_string());
        match request.path.split_once("/tree/") {
            Some((_, query)) if query.ends_with("cursor=2") => page(1),
            Some(_) => page(0).header("Link", "</api/models/user/repo/tree/x?cursor=2>; rel=\"next\""),
            None => reply,
        }
    });
    assert_eq!(Cache::new().pull(&server, "user/repo").unwrap().bytes, 20);
    let endless = Repository::with_bytes(9).serve(|request, reply| match request.path.contains("/tree/") {
        true => reply.header("Link", format!("<{}>; rel=\"next\"", request.path)),
        false => reply,
    });
    let error = Cache::new().pull(&endless, "user/repo").unwrap_err();
    assert!(error.to_string().contains("the listing has no end"), "{error}");
}
