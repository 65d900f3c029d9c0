//! Deleting models from the cache.

use std::fs;

use rfgraph::hub::{HubError, Places, Store, remove};

use crate::repository::{COMMIT, Cache, Repository, bytes, sha256};

fn store(cache: &Cache) -> Store {
    let places =
        Places { hub: cache.path().into(), folders: vec![cache.path().join("own")], ..Places::default() };
    Store::new(places, "/".into()).unwrap()
}

/// Deletes by name; the bytes that are free then.
fn remove_name(cache: &Cache, name: &str) -> Result<u64, HubError> {
    let store = store(cache);
    let entry = store.entry(name)?.unwrap();
    Ok(remove(&store, &entry)?.bytes)
}

#[test]
fn a_deleted_model_leaves_nothing_and_the_others_stay() {
    let repo = Repository::of(&[("a/m-Q8_0.gguf", &bytes(500)), ("m-Q4_K_M.gguf", &bytes(700))]);
    let (server, cache) = (repo.serve(|_, reply| reply), Cache::new());
    cache.pull(&server, "user/repo").unwrap();
    let before = cache.files();
    cache.pull(&server, "user/repo:Q8_0").unwrap();
    assert_eq!(remove_name(&cache, "user/repo:Q8_0").unwrap(), 500);
    assert_eq!(cache.files(), before);
    assert!(!cache.snapshot().join("a").exists());
    assert_eq!(remove_name(&cache, "repo").unwrap(), 700);
    assert!(cache.files().is_empty(), "{:?}", cache.files());
    assert!(!cache.repo().exists());
}

#[test]
fn a_content_that_another_name_uses_stays() {
    let repo = Repository::of(&[("m-Q8_0.gguf", &bytes(500)), ("m-Q4_K_M.gguf", &bytes(500))]);
    let (server, cache) = (repo.serve(|_, reply| reply), Cache::new());
    cache.pull(&server, "user/repo").unwrap();
    let other = cache.pull(&server, "user/repo:Q8_0").unwrap();
    assert_eq!(remove_name(&cache, "user/repo:Q4_K_M").unwrap(), 0);
    assert_eq!(fs::read(&other.path).unwrap(), bytes(500));
    // A name in another commit, and of a file that is no model.
    let last = cache.repo().join("snapshots").join("f".repeat(40)).join("notes.txt");
    fs::create_dir_all(last.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&bytes(500))), &last).unwrap();
    assert_eq!(remove_name(&cache, "user/repo:Q8_0").unwrap(), 0);
    assert_eq!(fs::read(&last).unwrap(), bytes(500));
    assert!(!cache.repo().join("refs/main").exists(), "its commit {COMMIT} is gone");
}

#[test]
fn all_commits_lose_the_name() {
    let repo = Repository::with_bytes(500);
    let cache = Cache::new();
    cache.pull(&repo.clone().serve(|_, reply| reply), "user/repo").unwrap();
    let newer =
        Repository { commit: "f".repeat(40), files: vec![("m-Q4_K_M.gguf".into(), bytes(800))], ..repo };
    cache.pull(&newer.serve(|_, reply| reply), "user/repo").unwrap();
    assert_eq!(remove_name(&cache, "user/repo").unwrap(), 1300);
    assert!(cache.files().is_empty(), "{:?}", cache.files());
}

#[test]
fn a_link_out_of_the_repository_is_deleted_and_its_target_not() {
    let cache = Cache::new();
    let target = cache.path().join("precious");
    fs::write(&target, "x").unwrap();
    fs::create_dir_all(cache.snapshot()).unwrap();
    fs::create_dir_all(cache.repo().join("blobs")).unwrap();
    std::os::unix::fs::symlink(&target, cache.snapshot().join("m-Q8_0.gguf")).unwrap();
    assert_eq!(remove_name(&cache, "user/repo").unwrap(), 0);
    assert_eq!(cache.files(), ["precious"]);
}

#[test]
fn other_sources_are_not_touched() {
    let cache = Cache::new();
    let own = cache.path().join("own/x.gguf");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "x").unwrap();
    let error = remove_name(&cache, "x").unwrap_err().to_string();
    assert!(error.contains("which rfgraph only reads; delete it with `rm "), "{error}");
    assert!(own.exists());
}
