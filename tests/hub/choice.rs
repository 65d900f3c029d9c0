//! The files that a name means.

use std::fs;
use std::ops::ControlFlow;

use rfgraph::hub::{Event, HubError, pull};

use crate::repository::{Cache, Repository};

/// The files that are downloaded for a name, without their folder.
fn chosen(files: &[&str], name: &str) -> Result<Vec<String>, HubError> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (*path, path.as_bytes())).collect();
    let (repo, cache) = (Repository::of(&files), Cache::new());
    let server = repo.serve(|_, reply| reply);
    let pulled = cache.pull(&server, name)?;
    let asked = server.file_requests();
    assert_eq!(pulled.downloaded, asked.len());
    let names: Vec<String> =
        asked.iter().map(|request| request.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert!(pulled.path.ends_with(&names[0]), "{:?}", pulled.path);
    for name in &names {
        let content = fs::read_to_string(pulled.path.with_file_name(name)).unwrap();
        assert!(content.ends_with(name), "{content}");
    }
    Ok(names)
}

#[test]
fn without_a_quantization_q4_k_m_is_taken_and_else_the_first() {
    let files = ["m-F16.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-Q4_K_M.gguf"];
    assert_eq!(chosen(&files, "user/repo").unwrap(), ["m-Q4_K_M.gguf"]);
    assert_eq!(
        chosen(&["mmproj-m-F16.gguf", "z-Q8_0.gguf", "n-Q5_0.gguf"], "user/repo").unwrap(),
        ["n-Q5_0.gguf"]
    );
}

#[test]
fn a_fallback_is_told() {
    let (repo, cache) = (Repository::of(&[("m-Q8_0.gguf", b"x")]), Cache::new());
    let server = repo.serve(|_, reply| reply);
    for (name, expected) in [("user/repo", true), ("user/repo:Q8_0", false)] {
        let mut told = None;
        let on_event = &mut |event: Event<'_>| {
            if let Event::Chosen { name, is_fallback, .. } = event {
                told = Some((name.to_owned(), is_fallback));
            }
            ControlFlow::Continue(())
        };
        pull(&name.parse().unwrap(), &cache.options(&server), on_event).unwrap();
        assert_eq!(told, Some(("user/repo:Q8_0".into(), expected)));
    }
}

#[test]
fn all_parts_of_a_split_model_are_fetched() {
    let files = ["Q8_0/m-Q8_0-00002-of-00002.gguf", "Q8_0/m-Q8_0-00001-of-00002.gguf", "m-Q4_0.gguf"];
    let expected = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
    assert_eq!(chosen(&files, "user/repo:Q8_0").unwrap(), expected);
    assert_eq!(chosen(&files, "user/repo:Q8_0/m-Q8_0-00001-of-00002.gguf").unwrap(), expected);
    let error = chosen(&files[1..], "user/repo:Q8_0").unwrap_err();
    assert!(matches!(error, HubError::Parts { found: 1, count: 2, .. }), "{error}");
}

#[test]
fn a_name_for_several_models_is_refused_with_the_candidates() {
    let files = ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"];
    let error = chosen(&files, "user/repo").unwrap_err().to_string();
    for candidate in ["user/repo:a-Q4_K_M.gguf", "user/repo:b-Q4_K_M.gguf"] {
        assert!(error.contains(candidate), "{error}");
    }
    assert_eq!(chosen(&files, "user/repo:b-Q4_K_M.gguf").unwrap(), ["b-Q4_K_M.gguf"]);
}

#[test]
fn an_absent_quantization_is_refused_with_those_that_are_there() {
    let error = chosen(&["m-Q8_0.gguf", "m-F16.gguf"], "user/repo:Q4_0").unwrap_err().to_string();
    assert_eq!(error, "user/repo has no model `Q4_0`; it has F16, Q8_0");
    let error = chosen(&["README.md"], "user/repo").unwrap_err().to_string();
    assert_eq!(error, "user/repo has no GGUF model");
}
