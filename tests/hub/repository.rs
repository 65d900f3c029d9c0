//! A repository as Hugging Face serves it, and a cache to download it to.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rfgraph::hub::{HubError, HubOptions, Pulled, Token, pull};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::{Reply, Request, Server};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const REPO: &str = "user/repo";

/// The files of `user/repo`.
#[derive(Clone)]
pub struct Repository {
    pub files: Vec<(String, Vec<u8>)>,
    pub commit: String,
    /// The mark of all files.
    pub etag: Option<String>,
}

impl Repository {
    pub fn of(files: &[(&str, &[u8])]) -> Repository {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        Repository { files: files.collect(), commit: COMMIT.into(), etag: Some("\"mark\"".into()) }
    }

    /// One file of so many bytes, all different from their neighbours.
    pub fn with_bytes(n: usize) -> Repository {
        Repository::of(&[("m-Q4_K_M.gguf", &bytes(n))])
    }

    /// The entries of the tree.
    pub fn tree(&self) -> Vec<Value> {
        let entry = |(path, bytes): &(String, Vec<u8>)| {
            json!({"type": "file", "path": path, "oid": "1".repeat(40), "size": bytes.len(),
                "lfs": {"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134}})
        };
        self.files.iter().map(entry).collect()
    }

    /// The right answer, with ranges.
    pub fn reply(&self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap();
        if path == format!("/api/models/{REPO}/revision/main") {
            return Reply::new(200, json!({"sha": self.commit}).to_string());
        }
        if path == format!("/api/models/{REPO}/tree/{}", self.commit) {
            return Reply::new(200, Value::from(self.tree()).to_string());
        }
        let file = path.strip_prefix(&format!("/{REPO}/resolve/{}/", self.commit));
        let found = file.and_then(|file| self.files.iter().find(|(path, _)| path == file));
        let Some((_, bytes)) = found else { return Reply::new(404, "{}") };
        self.content(request, bytes)
    }

    fn content(&self, request: &Request, bytes: &[u8]) -> Reply {
        let from = request
            .header("range")
            .map(|range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
        let is_same = request.header("if-range").is_none_or(|mark| Some(mark) == self.etag.as_deref());
        let mut reply = match from {
            Some(from) if is_same && from >= bytes.len() => Reply::new(416, ""),
            Some(from) if is_same => Reply::new(206, &bytes[from..])
                .header("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            _ => Reply::new(200, bytes),
        };
        if let Some(etag) = &self.etag {
            reply = reply.header("ETag", etag);
        }
        reply
    }

    /// Serves the repository; `meddle` may change the answers.
    pub fn serve(self, meddle: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
        Server::start(move |request| meddle(request, self.reply(request)))
    }

    pub fn blob(&self, cache: &Cache) -> PathBuf {
        cache.repo().join("blobs").join(sha256(&self.files[0].1))
    }
}

pub fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cache in a temporary folder.
pub struct Cache(tempfile::TempDir);

impl Cache {
    pub fn new() -> Cache {
        Cache(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn repo(&self) -> PathBuf {
        self.path().join("models--user--repo")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.repo().join("snapshots").join(COMMIT)
    }

    /// Options with short times.
    pub fn options(&self, server: &Server) -> HubOptions {
        HubOptions {
            endpoint: server.address.clone(),
            token: Token::new("hf_secret"),
            offline: false,
            cache: self.path().to_owned(),
            stall: Duration::from_millis(500),
            pause: Duration::from_millis(5),
            attempts: 3,
        }
    }

    pub fn pull(&self, server: &Server, name: &str) -> Result<Pulled, HubError> {
        pull(&name.parse().unwrap(), &self.options(server), &mut |_| ControlFlow::Continue(()))
    }

    /// All files below the cache, locks aside.
    pub fn files(&self) -> Vec<String> {
        let mut open = vec![self.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true if entry.file_name() == ".locks" => {}
                    true => open.push(entry.path()),
                    false => found
                        .push(entry.path().strip_prefix(self.path()).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        found.sort();
        found
    }
}
