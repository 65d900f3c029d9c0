//! Connections and servers that fail in the middle: what is there is used, and nothing wrong is kept.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rfgraph::hub::{HubError, HubOptions, pull};

use crate::repository::{Cache, Repository, bytes};
use crate::server::{Reply, Request, Server};

/// Serves the repository; `meddle` gets the number of the file's request, from 0.
fn faulty(
    repo: &Repository,
    meddle: impl Fn(usize, &Request, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let count = AtomicUsize::new(0);
    repo.clone().serve(move |request, reply| match request.is_for_a_file() {
        true => meddle(count.fetch_add(1, Ordering::Relaxed), request, reply),
        false => reply,
    })
}

/// The `Range` headers of the file's requests.
fn ranges(server: &Server) -> Vec<Option<String>> {
    server.file_requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

fn at(from: usize) -> Option<String> {
    Some(format!("bytes={from}-"))
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let (repo, cache) = (Repository::with_bytes(50_000), Cache::new());
    // More cuts than attempts: progress counts.
    let server = faulty(&repo, |i, _, reply| if i < 8 { reply.cut(5000) } else { reply });
    let pulled = cache.pull(&server, "user/repo").unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), bytes(50_000));
    let expected: Vec<_> = (0..9).map(|i| if i == 0 { None } else { at(i * 5000) }).collect();
    assert_eq!(ranges(&server), expected);
    assert!(server.file_requests()[1..].iter().all(|request| request.header("if-range") == Some("\"mark\"")));
    assert!(!cache.files().iter().any(|file| file.contains(".part")), "{:?}", cache.files());
}

#[test]
fn a_download_goes_on_after_a_restart() {
    let (repo, cache) = (Repository::with_bytes(50_000), Cache::new());
    let server = faulty(&repo, |i, _, reply| if i == 0 { reply.cut(12_345) } else { reply });
    let once = HubOptions { attempts: 1, ..cache.options(&server) };
    let error = pull(&"user/repo".parse().unwrap(), &once, &mut |_| std::ops::ControlFlow::Continue(()));
    let Err(HubError::Network { url, problem }) = error else { panic!("{error:?}") };
    assert!(url.starts_with(&server.address) && !problem.is_empty(), "{url}: {problem}");
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [None, at(12_345)]);
    assert_eq!(server.file_requests()[1].header("if-range"), Some("\"mark\""));
    assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(50_000));
}

/// Leaves a part of another content in the cache.
fn with_stale_part(repo: &Repository, etag: &str) -> Cache {
    let cache = Cache::new();
    let blob = repo.blob(&cache);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(blob.with_extension("part"), [9; 3000]).unwrap();
    fs::write(blob.with_extension("part.etag"), etag).unwrap();
    cache
}

#[test]
fn a_changed_content_is_fetched_from_the_start() {
    let repo = Repository::with_bytes(9000);
    let cache = with_stale_part(&repo, "\"old\"");
    let server = faulty(&repo, |_, _, reply| reply);
    cache.pull(&server, "user/repo").unwrap();
    // The server compares the marks, and sends all.
    assert_eq!(ranges(&server), [at(3000)]);
    assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(9000));
}

#[test]
fn a_changed_mark_is_seen_if_the_server_ignores_the_condition() {
    let repo = Repository::with_bytes(9000);
    let cache = with_stale_part(&repo, "\"old\"");
    let unaware = repo.clone();
    let server = faulty(&repo, move |_, request, reply| match request.header("range") {
        Some(_) => Reply::new(206, &unaware.files[0].1[3000..])
            .header("Content-Range", "bytes 3000-8999/9000")
            .header("ETag", "\"mark\""),
        None => reply,
    });
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [at(3000), None]);
    assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(9000));
}

#[test]
fn a_stale_part_without_a_mark_is_found_by_its_checksum() {
    let repo = Repository { etag: None, ..Repository::with_bytes(9000) };
    let cache = with_stale_part(&repo, "W/\"weak\"");
    let server = faulty(&repo, |_, _, reply| reply);
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [at(3000), None]);
    // A weak mark is not for ranges.
    assert_eq!(server.file_requests()[0].header("if-range"), None);
    assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(9000));
}

#[test]
fn a_part_that_is_too_long_is_dropped() {
    let repo = Repository::with_bytes(2000);
    let cache = with_stale_part(&repo, "\"mark\"");
    let server = faulty(&repo, |_, _, reply| reply);
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [None]);
}

#[test]
fn an_unsatisfiable_range_begins_from_the_start() {
    let repo = Repository::with_bytes(9000);
    let cache = with_stale_part(&repo, "\"mark\"");
    let server = faulty(&repo, |i, _, reply| if i == 0 { Reply::new(416, "") } else { reply });
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [at(3000), None]);
    let always = faulty(&repo, |_, _, _| Reply::new(416, ""));
    let error = Cache::new().pull(&always, "user/repo").unwrap_err();
    assert!(error.to_string().contains("status 416"), "{error}");
}

#[test]
fn another_range_than_asked_for_is_not_used() {
    let repo = Repository::with_bytes(9000);
    for range in ["bytes 2999-8999/9000", "bytes 3000-8999/9001", "nonsense"] {
        let cache = with_stale_part(&repo, "\"mark\"");
        let server = faulty(&repo, move |_, request, reply| match request.header("range") {
            Some(_) => Reply::new(206, vec![1; 6000]).header("Content-Range", range),
            None => reply,
        });
        cache.pull(&server, "user/repo").unwrap();
        assert_eq!(ranges(&server), [at(3000), None], "{range}");
    }
}

#[test]
fn a_corrupt_file_is_refused_and_nothing_is_kept() {
    let (repo, cache) = (Repository::with_bytes(9000), Cache::new());
    let server = faulty(&repo, |_, _, mut reply| {
        reply.body[4000] ^= 1;
        reply
    });
    let error = cache.pull(&server, "user/repo").unwrap_err();
    assert!(matches!(&error, HubError::Checksum { .. }), "{error}");
    assert!(cache.files().is_empty(), "{:?}", cache.files());
}

#[test]
fn another_length_than_listed_is_refused() {
    for is_chunked in [false, true] {
        let (repo, cache) = (Repository::with_bytes(9000), Cache::new());
        let server = faulty(&repo, move |_, _, reply| {
            let body = [reply.body.clone(), vec![0; 5]].concat();
            Reply { body, is_chunked, ..reply }
        });
        let error = cache.pull(&server, "user/repo").unwrap_err();
        let is_right = matches!(error, HubError::Length { expected: 9000, found: 9005, .. });
        assert!(is_right, "chunked {is_chunked}: {error}");
        assert!(!repo.blob(&cache).exists());
    }
}

#[test]
fn a_stalled_connection_is_given_up_and_gone_on_with() {
    let (repo, cache) = (Repository::with_bytes(9000), Cache::new());
    let server = faulty(&repo, |i, _, reply| match i {
        0 => Reply { stall: Duration::from_secs(20), ..reply.cut(4096) },
        _ => reply,
    });
    let start = Instant::now();
    cache.pull(&server, "user/repo").unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(ranges(&server), [None, at(4096)]);
}

#[test]
fn a_slow_connection_is_not_a_stalled_one() {
    let (repo, cache) = (Repository::with_bytes(9000), Cache::new());
    // 900 ms in all, and 500 without a byte would be too long.
    let server = faulty(&repo, |_, _, reply| Reply { pace: Duration::from_millis(100), ..reply });
    cache.pull(&server, "user/repo").unwrap();
    assert_eq!(ranges(&server), [None]);
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Cut(usize),
    Status(u16),
    Flip(usize),
    NoRanges,
    NewMark,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::None),
        (0..9000usize).prop_map(Fault::Cut),
        prop_oneof![Just(416), Just(429), Just(500), Just(503)].prop_map(Fault::Status),
        (0..9000usize).prop_map(Fault::Flip),
        Just(Fault::NoRanges),
        Just(Fault::NewMark),
    ]
}

impl Fault {
    fn of(self, bytes: &[u8], mut reply: Reply) -> Reply {
        match self {
            Fault::None => reply,
            Fault::Cut(at) => reply.cut(at),
            Fault::Status(status) => Reply::new(status, "{}"),
            Fault::Flip(at) => {
                let at = at % reply.body.len().max(1);
                reply.body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
                reply
            }
            Fault::NoRanges => Reply::new(200, bytes),
            Fault::NewMark => {
                reply.headers.retain(|(name, _)| name != "ETag");
                reply.header("ETag", "\"other\"")
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a server does, the content is right or absent.
    #[test]
    fn no_series_of_faults_leaves_a_wrong_file(faults in proptest::collection::vec(fault(), 0..6), runs in 1..3) {
        let (repo, cache) = (Repository::with_bytes(9000), Cache::new());
        let server = faulty(&repo, move |i, _, reply| {
            faults.get(i).copied().unwrap_or(Fault::None).of(&bytes(9000), reply)
        });
        for _ in 0..runs {
            let result = cache.pull(&server, "user/repo");
            let there = fs::read(repo.blob(&cache)).ok();
            prop_assert_eq!(there.is_some(), result.is_ok(), "{:?}", result);
            prop_assert!(there.is_none_or(|there| there == bytes(9000)));
        }
        // After the last fault a download succeeds.
        for _ in 0..8 {
            let _ = cache.pull(&server, "user/repo");
        }
        prop_assert_eq!(fs::read(repo.blob(&cache)).unwrap(), bytes(9000));
    }
}
