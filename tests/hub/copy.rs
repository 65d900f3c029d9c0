//! Further names for models, and what deleting one of the names leaves.

use std::fs;

use rfgraph::hub::{HubError, Places, Store, copy, remove};

use crate::repository::{Cache, Repository, bytes};

fn store(cache: &Cache) -> Store {
    let folders = vec![cache.path().join("own")];
    let llama_cpp = vec![cache.path().join("llama")];
    let places = Places { hub: cache.path().into(), folders, llama_cpp, ..Places::default() };
    Store::new(places, "/".into()).unwrap()
}

fn copy_name(cache: &Cache, from: &str, to: &str) -> Result<(), HubError> {
    let store = store(cache);
    copy(&store, &store.entry(from)?.unwrap(), to)
}

/// Deletes by name; the bytes that are free then.
fn remove_name(cache: &Cache, name: &str) -> u64 {
    let store = store(cache);
    remove(&store, &store.entry(name).unwrap().unwrap()).unwrap().bytes
}

fn names(cache: &Cache) -> Vec<String> {
    store(cache).list().into_iter().map(|entry| entry.name).collect()
}

fn pulled(files: &[(&str, &[u8])]) -> Cache {
    let (server, cache) = (Repository::of(files).serve(|_, reply| reply), Cache::new());
    cache.pull(&server, "user/repo").unwrap();
    cache
}

#[test]
fn the_content_stays_until_the_last_name_is_deleted() {
    for first_goes_the_copy in [false, true] {
        let cache = pulled(&[("m-Q4_K_M.gguf", &bytes(700))]);
        copy_name(&cache, "repo", "mine:7b").unwrap();
        assert_eq!(names(&cache), ["mine:7b", "user/repo:Q4_K_M"]);
        let mut order = ["user/repo:Q4_K_M", "mine:7b"];
        if first_goes_the_copy {
            order.reverse();
        }
        assert_eq!(remove_name(&cache, order[0]), 0);
        let left = store(&cache).find(order[1]).unwrap().unwrap();
        assert_eq!(fs::read(left).unwrap(), bytes(700));
        assert_eq!(remove_name(&cache, order[1]), 700);
        assert_eq!(cache.files(), [""; 0]);
    }
}

#[test]
fn all_parts_of_a_split_model_are_named() {
    let parts: [(&str, &[u8]); 2] =
        [("m-Q4_K_M-00001-of-00002.gguf", &bytes(300)), ("m-Q4_K_M-00002-of-00002.gguf", &bytes(500))];
    let cache = pulled(&parts);
    copy_name(&cache, "repo", "folder/mine").unwrap();
    assert_eq!(remove_name(&cache, "repo"), 0);
    let entry = store(&cache).entry("folder/mine").unwrap().unwrap();
    assert_eq!((entry.files.len(), entry.bytes), (2, 800));
    assert_eq!(remove_name(&cache, "mine"), 800);
    assert_eq!(cache.files(), [""; 0]);
}

#[test]
fn a_copy_of_another_programs_model_is_only_a_link() {
    let cache = Cache::new();
    let theirs = cache.path().join("llama/x.gguf");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "x").unwrap();
    copy_name(&cache, "x", "y").unwrap();
    assert_eq!(remove_name(&cache, "y"), 0);
    assert_eq!(cache.files(), ["llama/x.gguf"]);
}

#[test]
fn names_that_cannot_be_given_are_refused() {
    let cache = pulled(&[("m-Q4_K_M.gguf", &bytes(100))]);
    copy_name(&cache, "repo", "taken:latest").unwrap();
    let before = cache.files();
    let long = "a".repeat(129);
    for name in [
        "",
        "../x",
        "a/../x",
        "/x",
        ".x",
        "a//b",
        "a/.b",
        "-a",
        "a b",
        "ä",
        "a/b/c/d",
        "a\0",
        "a\nb",
        &long,
        "taken",
        "repo",
        "TAKEN",
        "taken.gguf",
        "mmproj",
        "a-00001-of-00003",
    ] {
        let error = copy_name(&cache, "user/repo", name).unwrap_err();
        assert!(matches!(error, HubError::Name { .. }), "{name:?}: {error}");
    }
    assert_eq!(cache.files(), before);
}
