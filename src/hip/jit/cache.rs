//! Compiled programs on disk, one file each, so that a kernel is not compiled again in every process.
//!
//! Any number of processes may share a folder: a file appears by a rename and is never written in place; files are
//! checked when read, and damaged ones are removed and made again. Nothing here is an error: an unusable folder costs
//! time, and is logged once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::Key;

/// The first bytes of a file; then come the key, the SHA-256 of the code, and the code.
const MAGIC: &[u8; 8] = b"RFGRAPH1";
const HEADER: usize = 8 + 32 + 32;
const EXTENSION: &str = "kernel";
const TEMPORARY: &str = "part";
/// A temporary file this old was left behind by a process that died.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder of compiled programs.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
    /// Bytes in the folder, as far as this process knows; `None` before the first write.
    used: Mutex<Option<u64>>,
    complained: AtomicBool,
}

/// A file of the folder.
struct Entry {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Cache {
    /// The default size limit: 512 MiB.
    pub const LIMIT: u64 = 512 << 20;

    /// The cache in this folder, which need not exist. Above `limit` bytes, the least recently used programs are
    /// removed.
    pub fn new(folder: impl Into<PathBuf>, limit: u64) -> Cache {
        Cache { folder: folder.into(), limit, used: Mutex::new(None), complained: AtomicBool::new(false) }
    }

    /// The user's folder: `$RFGRAPH_CACHE_DIR`, else `$XDG_CACHE_HOME/rfgraph/kernels`, else
    /// `~/.cache/rfgraph/kernels`; `None` without a home directory.
    pub fn user_folder() -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = variable("RFGRAPH_CACHE_DIR") {
            return Some(folder);
        }
        // The XDG specification requires that relative paths are ignored.
        let base = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let base = base.or_else(|| Some(variable("HOME")?.join(".cache")));
        base.map(|base| base.join("rfgraph").join("kernels"))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The intact program with this key, if it is cached.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.complain("read", &error);
                return None;
            }
        };
        if !is_whole(key, &bytes) {
            tracing::info!("{} is damaged; the kernel is compiled again", path.display());
            let _ = fs::remove_file(&path);
            return None;
        }
        // The time of last use decides which programs are removed first. If it cannot be set, age decides.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes.split_off(HEADER))
    }

    /// Stores a program under its key.
    pub fn put(&self, key: &Key, code: &[u8]) {
        let bytes = (HEADER + code.len()) as u64;
        if bytes > self.limit {
            return;
        }
        match self.write(key, code) {
            Ok(()) => self.account(bytes),
            Err(error) => self.complain("write to", &error),
        }
    }

    /// Removes every program; returns their number and bytes.
    pub fn clear(&self) -> io::Result<(usize, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in self.entries(&[EXTENSION, TEMPORARY])? {
            match fs::remove_file(&entry.path) {
                Ok(()) => (count, bytes) = (count + 1, bytes + entry.bytes),
                // Another process removed it first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok((count, bytes))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    fn write(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(&self.folder)?;
        // The time distinguishes processes with the same id on two machines that share the folder.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}-{since}.{TEMPORARY}", std::process::id());
        let temporary = self.folder.join(name);
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(key.bytes())?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)
        });
        let renamed = written.and_then(|()| fs::rename(&temporary, self.path(key)));
        match renamed {
            // Another process cleared the folder in between; the program is then just not cached.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Adds to the folder's size, and makes room above the limit.
    fn account(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let now = used.map(|used| used.saturating_add(bytes));
        if now.is_none_or(|now| now > self.limit) {
            // Other processes write here too, so the folder is listed.
            *used = self.trim().ok();
        } else {
            *used = now;
        }
    }

    /// Removes the least recently used programs until the limit is met; returns the remaining bytes.
    fn trim(&self) -> io::Result<u64> {
        for entry in self.entries(&[TEMPORARY])? {
            if entry.used.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(&entry.path);
            }
        }
        let mut entries = self.entries(&[EXTENSION])?;
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut used = entries.iter().map(|entry| entry.bytes).sum::<u64>();
        for entry in entries {
            if used <= self.limit {
                break;
            }
            if fs::remove_file(&entry.path).is_ok() {
                tracing::debug!("{} makes room in the kernel cache", entry.path.display());
                used -= entry.bytes;
            }
        }
        Ok(used)
    }

    /// The folder's files with one of these extensions. Other files are not touched.
    fn entries(&self, extensions: &[&str]) -> io::Result<Vec<Entry>> {
        let listing = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut entries = Vec::new();
        for path in listing.filter_map(|entry| Some(entry.ok()?.path())) {
            let ours = path.extension().is_some_and(|found| extensions.iter().any(|&ours| found == ours));
            // A file that has vanished was removed by another process.
            let Some(meta) = ours.then(|| fs::symlink_metadata(&path).ok()).flatten() else { continue };
            if meta.is_file() {
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push(Entry { used, path, bytes: meta.len() });
            }
        }
        Ok(entries)
    }

    fn complain(&self, verb: &str, error: &io::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "cannot {verb} the kernel cache {}: {error}; kernels are compiled again in every process. \
                 RFGRAPH_CACHE_DIR names another folder",
                self.folder.display()
            );
        }
    }
}

/// True if a file's bytes are an intact program of this key.
fn is_whole(key: &Key, bytes: &[u8]) -> bool {
    let Some((header, code)) = bytes.split_at_checked(HEADER) else { return false };
    let expected = [&MAGIC[..], key.bytes(), &Sha256::digest(code)].concat();
    header == expected
}
