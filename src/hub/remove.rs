//! Deleting a model from Hugging Face's cache, or a link to a model: its names in the commits, and the contents that no name
//! has any more.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::cache::RepoCache;
use super::download::with_ending;
use super::listing::BRANCH;
use super::store::{Entry, RepoEntry, Source, of_repository};
use super::{HubError, Reference, Store};

/// The deleted files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// Number of names that were deleted.
    pub names: usize,
    /// Contents that were deleted.
    pub blobs: Vec<PathBuf>,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// Deletes a model of [`Store::list`] that is in Hugging Face's cache, in all commits that have it under this name, or one
/// that is a link in a folder of models. A content that another name uses stays.
///
/// # Errors
/// The model is of another source, or a file cannot be deleted.
pub fn remove(store: &Store, entry: &Entry) -> Result<Removal, HubError> {
    let reference = match (entry.source, entry.name.parse::<Reference>()) {
        (Source::HuggingFace, Ok(reference)) => reference,
        (Source::Folder, _) if entry.files.iter().all(|file| file.is_symlink()) => {
            return remove_links(store, entry);
        }
        _ => return Err(not_ours(entry)),
    };
    let hub = &store.places().hub;
    let cache = RepoCache::new(hub, &reference);
    let same = of_repository(hub, &reference).into_iter().filter(|found| found.entry.name == entry.name);
    let mut removal = Removal::default();
    for RepoEntry { entry, commit } in same {
        let snapshot = cache.snapshots().join(&commit);
        for link in &entry.files {
            remove_name(store, &cache, link, &mut removal)?;
            remove_empty_folders(link, &snapshot);
        }
    }
    clean(&cache)?;
    Ok(removal)
}

fn remove_links(store: &Store, entry: &Entry) -> Result<Removal, HubError> {
    let mut removal = Removal::default();
    for link in &entry.files {
        match cache_of_content(&store.places().hub, link) {
            Some(cache) => {
                remove_name(store, &cache, link, &mut removal)?;
                clean(&cache)?;
            }
            None => {
                fs::remove_file(link).map_err(HubError::file("delete", link))?;
                removal.names += 1;
            }
        }
    }
    Ok(removal)
}

/// The cache of the repository that has a link's content.
fn cache_of_content(hub: &Path, link: &Path) -> Option<RepoCache> {
    let content = fs::canonicalize(link).ok()?;
    let folder = content.parent()?.parent()?;
    let reference = Reference::of_folder(folder.file_name()?.to_str()?)?;
    let cache = RepoCache::new(hub, &reference);
    (fs::canonicalize(cache.blobs()).ok()? == content.parent()?).then_some(cache)
}

fn not_ours(entry: &Entry) -> HubError {
    let remedy = match entry.source {
        Source::Ollama => format!("with `ollama rm {}`", entry.name),
        _ => format!("with `rm {}`", entry.path().display()),
    };
    HubError::NotOurs { name: entry.name.clone(), owner: entry.source.name(), remedy }
}

/// Deletes a name, and its content if that was the last name.
fn remove_name(store: &Store, cache: &RepoCache, link: &Path, removal: &mut Removal) -> Result<(), HubError> {
    // The content is one of this repository, or it is not touched.
    let blobs = fs::canonicalize(cache.blobs()).ok();
    let blob = fs::canonicalize(link).ok().filter(|blob| blob.parent() == blobs.as_deref());
    let digits = blob.as_deref().and_then(|blob| blob.file_name()?.to_str()).map(str::to_owned);
    // No download of this content ends between the search for names and the deletion.
    let lock = digits.map(|digits| cache.lock(&digits, &mut || (), &mut || ControlFlow::Continue(())));
    let lock = lock.transpose()?;
    fs::remove_file(link).map_err(HubError::file("delete", link))?;
    removal.names += 1;
    if let Some(blob) = blob
        && !is_used(&cache.snapshots(), &blob)?
        && !is_linked(store, &blob)
    {
        let bytes = fs::metadata(&blob).map_or(0, |blob| blob.len());
        fs::remove_file(&blob).map_err(HubError::file("delete", &blob))?;
        let _ = fs::remove_file(with_ending(&blob, ".part"));
        removal.bytes += bytes;
        removal.blobs.push(blob);
    }
    drop(lock);
    Ok(())
}

/// True if a link in a folder of models leads to this content.
fn is_linked(store: &Store, blob: &Path) -> bool {
    let entries = store.list().into_iter().filter(|entry| entry.source == Source::Folder);
    let mut files = entries.flat_map(|entry| entry.files);
    files.any(|file| fs::canonicalize(file).is_ok_and(|content| content == blob))
}

/// True if a name below a folder, of any file and not only of models, leads to this content.
fn is_used(folder: &Path, blob: &Path) -> Result<bool, HubError> {
    let failed = |source: io::Error| HubError::File { verb: "read", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let uses = match is_folder {
            true => is_used(&entry.path(), blob)?,
            false => fs::canonicalize(entry.path()).is_ok_and(|content| content == blob),
        };
        if uses {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes the folders of a file up to the commit's, as far as they are empty.
fn remove_empty_folders(file: &Path, snapshot: &Path) {
    for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(snapshot)) {
        // Fails for a folder that is not empty.
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Deletes the branch if its commit is no longer there, and the repository's folder if it has no commit.
fn clean(cache: &RepoCache) -> Result<(), HubError> {
    let is_gone = |commit: String| !cache.snapshots().join(commit).exists();
    if cache.commit(BRANCH).is_some_and(is_gone) {
        let branch = cache.branch(BRANCH);
        fs::remove_file(&branch).map_err(HubError::file("delete", &branch))?;
    }
    // Only empty folders go: an unfinished download stays.
    for folder in [cache.snapshots(), cache.refs(), cache.blobs(), cache.folder.clone()] {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}
