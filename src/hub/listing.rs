//! A repository's commit and files, from Hugging Face's API.

use serde::Deserialize;

use super::client::{Client, Stop, answer};
use super::reference::is_hex;
use super::variant::first_bad_path;
use super::{HubError, Reference};

/// A repository at one commit.
pub(super) struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// The GGUF files.
    pub files: Vec<RemoteFile>,
}

/// A file that can be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// The path in the repository, checked.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The checksum, which is also the name of the blob in the cache.
    pub digest: Digest,
}

/// The checksum of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-256 of the content: large files (LFS).
    Sha256(String),
    /// SHA-1 of git's header and the content: small files that are in git itself.
    Git(String),
}

impl Digest {
    /// The hexadecimal digits.
    pub(super) fn digits(&self) -> &str {
        match self {
            Digest::Sha256(digits) | Digest::Git(digits) => digits,
        }
    }
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// The branch that is downloaded.
pub(super) const BRANCH: &str = "main";

/// Pages of a listing that are read at most. A page has up to 1000 files.
const MAX_PAGES: usize = 100;

impl Listing {
    /// Asks for the branch's commit, and then for the files of this commit, so that a change between the two is not seen.
    pub(super) fn read(client: &Client, repo: &Reference, stop: Stop<'_>) -> Result<Listing, HubError> {
        let repo = repo.repository();
        let url = client.url(&format!("api/models/{repo}/revision/{BRANCH}"));
        let (Revision { sha: commit }, _) = client.json(&url, stop)?;
        if !is_hex(&commit, 40) {
            return Err(answer(&url, "the commit is not 40 hexadecimal digits"));
        }
        let mut url = format!("{}?recursive=true", client.url(&format!("api/models/{repo}/tree/{commit}")));
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let (page, next): (Vec<TreeEntry>, _) = client.json(&url, stop)?;
            for entry in
                page.into_iter().filter(|entry| entry.kind == "file" && entry.path.ends_with(".gguf"))
            {
                files.push(checked(&url, entry)?);
            }
            match next {
                Some(next) => url = next,
                None => return Ok(Listing { commit, files }),
            }
        }
        Err(answer(&url, "the listing has no end"))
    }
}

/// The file of an entry, with checked path and checksum.
fn checked(url: &str, entry: TreeEntry) -> Result<RemoteFile, HubError> {
    if let Some((path, reason)) = first_bad_path([entry.path.as_str()].into_iter()) {
        return Err(answer(url, &format!("the file `{}`: {reason}", path.escape_debug())));
    }
    let (digest, size) = match entry.lfs {
        Some(Lfs { oid, size }) if is_hex(&oid, 64) => (Digest::Sha256(oid), size),
        None if is_hex(&entry.oid, 40) => (Digest::Git(entry.oid), entry.size),
        _ => return Err(answer(url, &format!("the file `{}` has no checksum", entry.path.escape_debug()))),
    };
    Ok(RemoteFile { path: entry.path, size, digest })
}
