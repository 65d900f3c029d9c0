//! Finding models by name in all sources.

use std::fs;
use std::path::{Path, PathBuf};

use rfgraph::hub::{HubError, Places, Source, Store};

/// The folders of a user.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A file in Hugging Face's cache, as other programs write it.
    fn hub(&self, repo: &str, commit: char, file: &str, content: &str) -> PathBuf {
        let folder = self.path("hub").join(format!("models--{}", repo.replace('/', "--")));
        let blob = crate::repository::sha256(content.as_bytes());
        for made in ["blobs", "refs", &format!("snapshots/{}", commit.to_string().repeat(40))] {
            fs::create_dir_all(folder.join(made)).unwrap();
        }
        fs::write(folder.join("blobs").join(&blob), content).unwrap();
        fs::write(folder.join("refs/main"), commit.to_string().repeat(40)).unwrap();
        let link = folder.join("snapshots").join(commit.to_string().repeat(40)).join(file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}blobs/{blob}"), &link).unwrap();
        link
    }

    fn ollama(&self, name: &str, media_type: &str, digest: &str) {
        let layers = format!(
            r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.{media_type}", "digest": "{digest}"}}]}}"#
        );
        self.write(&format!("ollama/manifests/{name}"), &layers);
    }

    fn places(&self) -> Places {
        Places {
            hub: self.path("hub"),
            folders: vec![self.path("models")],
            llama_cpp: vec![self.path("llama.cpp")],
            ollama: vec![self.path("ollama")],
            presets: self.path("config/models.toml"),
        }
    }

    fn store(&self) -> Store {
        Store::new(self.places(), self.0.path().into()).unwrap()
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.store().find(name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

#[test]
fn empty_places_have_no_models() {
    let home = Home::new();
    assert!(home.store().list().is_empty());
    assert_eq!(home.find("a/b"), None);
}

#[test]
fn models_of_all_sources_are_listed_and_found() {
    let home = Home::new();
    let digest = "b".repeat(64);
    let hub = home.hub("user/repo", 'a', "m-Q8_0.gguf", "hub");
    let folder = home.write("models/mine/own.gguf", "folder");
    let llama = home.write("llama.cpp/user_repo_x-Q4_0.gguf", "llama");
    let ollama = home.write(&format!("ollama/blobs/sha256-{digest}"), "ollama");
    home.ollama("registry.ollama.ai/library/small/latest", "model", &format!("sha256:{digest}"));
    let names: Vec<(String, Source)> =
        home.store().list().into_iter().map(|entry| (entry.name, entry.source)).collect();
    let expected = [
        ("mine/own", Source::Folder),
        ("small:latest", Source::Ollama),
        ("user/repo:Q8_0", Source::HuggingFace),
        ("user_repo_x-Q4_0", Source::LlamaCpp),
    ];
    assert_eq!(names, expected.map(|(name, source)| (name.to_owned(), source)));
    for (name, path) in [
        ("user/repo:Q8_0", &hub),
        ("user/repo", &hub),
        ("hf.co/user/repo:q8_0", &hub),
        ("repo", &hub),
        ("REPO:Q8_0", &hub),
        ("m-Q8_0.gguf", &hub),
        ("m-q8_0", &hub),
        ("mine/own", &folder),
        ("own", &folder),
        ("own.gguf", &folder),
        ("user_repo_x-Q4_0", &llama),
        ("small", &ollama),
        ("small:latest", &ollama),
    ] {
        assert_eq!(home.find(name).as_ref(), Some(path), "{name}");
    }
    for name in ["rep", "user/repo:Q4_0", "user/other", "small:7b", "", "own.gg", "../models/mine/own", "/"] {
        assert_eq!(home.find(name), None, "{name}");
    }
}

#[test]
fn an_ambiguous_name_is_an_error_with_all_candidates() {
    let home = Home::new();
    home.hub("user/repo", 'a', "m-Q8_0.gguf", "1");
    home.hub("other/repo", 'a', "n-Q8_0.gguf", "2");
    home.write("models/repo.gguf", "3");
    assert_eq!(home.find("repo").unwrap(), home.path("models/repo.gguf"), "a full name wins");
    let Err(HubError::Several { candidates, .. }) = home.store().find("repo:Q8_0") else {
        panic!("not refused")
    };
    assert!(
        candidates[0].starts_with("other/repo:Q8_0 ") && candidates[1].starts_with("user/repo:Q8_0 "),
        "{candidates:?}"
    );
    home.write("llama.cpp/repo.gguf", "4");
    assert!(matches!(home.store().find("repo"), Err(HubError::Several { .. })));
}

#[test]
fn a_repository_means_its_q4_k_m_or_its_only_model() {
    let home = Home::new();
    home.hub("user/repo", 'a', "m-Q8_0.gguf", "1");
    home.hub("user/repo", 'a', "m-Q5_0.gguf", "2");
    assert!(matches!(home.store().find("user/repo"), Err(HubError::Several { .. })));
    let default = home.hub("user/repo", 'a', "m-Q4_K_M.gguf", "3");
    assert_eq!(home.find("user/repo"), Some(default.clone()));
    assert_eq!(home.find("repo"), Some(default));
    // Not that of one repository if another has the name too.
    home.hub("other/repo", 'a', "m-Q8_0.gguf", "4");
    assert!(matches!(home.store().find("repo"), Err(HubError::Several { .. })));
}

#[test]
fn one_content_with_two_names_is_not_ambiguous() {
    let home = Home::new();
    home.hub("user/repo", 'a', "m-Q8_0.gguf", "same");
    let newer = home.hub("user/repo", 'b', "m-Q8_0.gguf", "same");
    assert_eq!(home.find("user/repo"), Some(newer));
    assert_eq!(home.store().list().len(), 1);
}

#[test]
fn the_newest_commit_has_the_name() {
    let home = Home::new();
    home.hub("user/repo", 'b', "m-Q8_0.gguf", "old");
    let newer = home.hub("user/repo", 'a', "m-Q8_0.gguf", "new");
    assert_eq!(home.find("user/repo:Q8_0"), Some(newer));
    // Without the branch nobody knows which is newer.
    fs::remove_file(home.path("hub/models--user--repo/refs/main")).unwrap();
    assert!(matches!(home.store().find("user/repo:Q8_0"), Err(HubError::Several { .. })));
}

#[test]
fn split_models_are_one_and_incomplete_ones_none() {
    let home = Home::new();
    let first = home.hub("user/repo", 'a', "m-Q8_0-00001-of-00002.gguf", "1");
    assert_eq!(home.find("user/repo"), None);
    home.hub("user/repo", 'a', "m-Q8_0-00002-of-00002.gguf", "22");
    home.hub("user/repo", 'a', "mmproj-F16.gguf", "3");
    assert_eq!(home.find("user/repo"), Some(first));
    let [entry] = &home.store().list()[..] else { panic!("{:?}", home.store().list()) };
    assert_eq!((entry.files.len(), entry.bytes), (2, 3));
}

#[test]
fn files_without_content_are_left_out() {
    let home = Home::new();
    let link = home.hub("user/repo", 'a', "m-Q8_0.gguf", "1");
    fs::remove_file(fs::canonicalize(link).unwrap()).unwrap();
    home.ollama("registry.ollama.ai/library/gone/latest", "model", &format!("sha256:{}", "c".repeat(64)));
    home.ollama(
        "registry.ollama.ai/library/adapter/latest",
        "adapter",
        &format!("sha256:{}", "d".repeat(64)),
    );
    home.ollama("registry.ollama.ai/library/evil/latest", "model", "sha256:../../../secret");
    home.write("secret", "x");
    home.write("ollama/manifests/a/b/c/d", "{");
    assert!(home.store().list().is_empty(), "{:?}", home.store().list());
}

#[test]
fn ollama_names_leave_out_what_ollama_leaves_out() {
    let home = Home::new();
    let digest = "e".repeat(64);
    home.write(&format!("ollama/blobs/sha256-{digest}"), "x");
    for name in ["registry.ollama.ai/library/m/7b", "registry.ollama.ai/me/m/latest", "hf.co/me/m/Q8_0"] {
        home.ollama(name, "model", &format!("sha256:{digest}"));
    }
    let names: Vec<String> = home.store().list().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["hf.co/me/m:Q8_0", "m:7b", "me/m:latest"]);
    assert!(home.find("me/m").is_some() && home.find("hf.co/me/m:Q8_0").is_some());
    assert_eq!(home.find("m"), None);
}

#[test]
fn presets_name_files_and_models() {
    let home = Home::new();
    let model = home.hub("user/repo", 'a', "m-Q8_0.gguf", "1");
    let file = home.write("elsewhere/x.gguf", "2");
    home.write("models/chat.gguf", "3");
    home.write(
        "config/models.toml",
        "[model.chat]\nfile = 'user/repo:Q8_0'\nalias = 'c'\n[model.x]\nfile = '~/elsewhere/x.gguf'\n\
         [model.y]\nfile = '../elsewhere/x.gguf'\n[model.gone]\nfile = 'user/gone'\n",
    );
    assert_eq!(home.find("chat"), Some(model.clone()), "the user's name wins over a file's");
    assert_eq!(home.find("c"), Some(model));
    assert_eq!(home.find("x"), Some(file));
    assert!(home.find("y").is_some());
    let error = home.store().find("gone").unwrap_err().to_string();
    assert!(error.contains("models.toml:8: the file of model `gone`, user/gone, is neither"), "{error}");
    home.write("config/models.toml", "[model.chat]\nfile = 'x'\nfoo = 1\n");
    let error = Store::new(home.places(), Path::new("/").into()).unwrap_err().to_string();
    assert!(error.contains("models.toml:3: unknown key `foo`"), "{error}");
}
