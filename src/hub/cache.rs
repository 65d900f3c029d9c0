//! The layout of Hugging Face's cache: contents in `blobs`, named by checksum; commits in `snapshots`, made of relative
//! links to the contents; branches in `refs`. Locks are in `.locks`, where Hugging Face's own programs have theirs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{Stop, wait};
use super::reference::is_hex;
use super::{HubError, Reference};

/// A repository's folder in the cache.
pub(super) struct RepoCache {
    /// The folder, `models--USER--REPO`.
    pub folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &Reference) -> RepoCache {
        RepoCache { folder: cache.join(repo.folder()), locks: cache.join(".locks").join(repo.folder()) }
    }

    /// The path of a content.
    pub(super) fn blob(&self, digits: &str) -> PathBuf {
        self.blobs().join(digits)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    pub(super) fn refs(&self) -> PathBuf {
        self.folder.join("refs")
    }

    /// The file that has a branch's commit.
    pub(super) fn branch(&self, name: &str) -> PathBuf {
        self.refs().join(name)
    }

    /// The commit of a branch, if it is known.
    pub(super) fn commit(&self, branch: &str) -> Option<String> {
        let commit = fs::read_to_string(self.branch(branch)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_hex(commit, 40))
    }

    /// Sets a branch's commit.
    pub(super) fn set_commit(&self, branch: &str, commit: &str) -> Result<(), HubError> {
        let path = self.branch(branch);
        make_parent(&path)?;
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&fresh, commit).map_err(HubError::file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(HubError::file("write", &path))
    }

    /// Gives a content its name in a commit: a relative link, as in `../../blobs/…`.
    pub(super) fn link(&self, commit: &str, path: &str, digits: &str) -> Result<PathBuf, HubError> {
        let link = self.snapshots().join(commit).join(path);
        make_parent(&link)?;
        let up = "../".repeat(2 + path.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{digits}"));
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(link);
        }
        let mut name = link.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.new", std::process::id()));
        let fresh = link.with_file_name(name);
        let _ = fs::remove_file(&fresh);
        make_link(&target, &self.blob(digits), &fresh).map_err(HubError::file("write", &fresh))?;
        fs::rename(&fresh, &link).map_err(HubError::file("write", &link))?;
        Ok(link)
    }

    /// Waits until no other program downloads or deletes this content. The lock ends when the value is dropped, and with
    /// the process. `waits` is called once if it has to wait.
    pub(super) fn lock(
        &self,
        digits: &str,
        waits: &mut dyn FnMut(),
        stop: Stop<'_>,
    ) -> Result<Lock, HubError> {
        let path = self.locks.join(format!("{digits}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(HubError::file("write", &path))?;
        let mut has_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut has_told, true) {
                        waits();
                    }
                    wait(Duration::from_millis(100), stop)?;
                }
                // Some network file systems have no locks. Contents are checked, so that a torn one is found.
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("{} cannot be locked: {error}", path.display());
                    return Ok(Lock { _file: file });
                }
            }
        }
    }
}

/// The right to write one content.
pub(super) struct Lock {
    _file: File,
}

/// A link with this target; `content` is the file that it leads to.
#[cfg(unix)]
pub(super) fn make_link(target: &Path, _: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a privilege on some systems; a second name of the file does not.
#[cfg(not(unix))]
pub(super) fn make_link(_: &Path, content: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(content, link)
}

/// Makes the folder of a file.
pub(super) fn make_parent(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(HubError::file("make", folder)),
        None => Ok(()),
    }
}

/// The files below a folder whose names end in `.gguf`, with their paths from it, as `a/b.gguf`. Folders up to `depth`
/// levels below are read, links to folders are not followed, and what cannot be read is left out.
pub(super) fn gguf_files(folder: &Path, depth: usize) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, level)) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let path = format!("{prefix}{name}");
            if kind.is_dir() && level < depth {
                open.push((entry.path(), format!("{path}/"), level + 1));
            } else if name.ends_with(".gguf") && entry.path().is_file() {
                found.push((path, entry.path()));
            }
        }
    }
    found.sort();
    found
}
