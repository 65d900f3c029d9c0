//! Downloading a model by its name.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::cache::{RepoCache, gguf_files};
use super::client::{Client, HubOptions};
use super::download::{download, with_ending};
use super::listing::{BRANCH, Listing, RemoteFile};
use super::variant::{Variant, fitting, labels, variants};
use super::{HubError, Reference};

/// An event of a download.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// The model was chosen.
    Chosen {
        /// `USER/REPO:QUANT` or `USER/REPO:FILE`.
        name: &'e str,
        /// Number of files.
        files: usize,
        /// Bytes of all files.
        bytes: u64,
        /// True if no quantization was given and the repository has no [`Pulled::DEFAULT`].
        is_fallback: bool,
    },
    /// Bytes of all files that are there. It also comes while nothing changes, so that a download can be ended.
    Bytes {
        /// Bytes that are there.
        done: u64,
        /// Bytes of all files.
        total: u64,
    },
    /// Another program downloads this file, which is waited for.
    Waiting {
        /// The file's path in the repository.
        file: &'e str,
    },
}

/// A model that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// `USER/REPO:QUANT` or `USER/REPO:FILE`.
    pub name: String,
    /// The first or only file.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files that were downloaded; the others were there.
    pub downloaded: usize,
}

impl Pulled {
    /// The quantization that is taken if none is given.
    pub const DEFAULT: &'static str = "Q4_K_M";
}

type OnEvent<'e> = &'e mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Makes sure that a model is in the cache: downloads its files, or those that lack. `on_event` ends the download by
/// `Break`; what is there then is used by the next call.
///
/// # Errors
/// The repository cannot be read, has no such model or several, the disk is too small, or a file is not what the
/// repository lists.
pub fn pull(reference: &Reference, options: &HubOptions, on_event: OnEvent<'_>) -> Result<Pulled, HubError> {
    let cache = RepoCache::new(&options.cache, reference);
    if options.offline {
        return in_cache(reference, options, &cache, on_event);
    }
    let client = Client::new(options)?;
    let on_event = RefCell::new(on_event);
    let tell = |event: Event<'_>| (on_event.borrow_mut())(event);
    let listing = Listing::read(&client, reference, &mut || tell(Event::Bytes { done: 0, total: 0 }))?;
    let all = variants(listing.files.into_iter().map(|file| (file.path.clone(), file)));
    let (chosen, name, is_fallback) = choose(reference, &all)?;
    let total = chosen.files.iter().map(|file| file.size).sum();
    if tell(Event::Chosen { name: &name, files: chosen.files.len(), bytes: total, is_fallback }).is_break() {
        return Err(HubError::Stopped);
    }
    fs::create_dir_all(cache.blobs()).map_err(HubError::file("make", &cache.blobs()))?;
    check_space(&cache, &chosen.files)?;
    let (mut before, mut downloaded, mut first) = (0, 0, None);
    for file in &chosen.files {
        let mut on_bytes = |done| tell(Event::Bytes { done: before + done, total });
        let mut waits = || _ = tell(Event::Waiting { file: &file.path });
        let lock = cache.lock(file.digest.digits(), &mut waits, &mut || on_bytes(0))?;
        let blob = cache.blob(file.digest.digits());
        if !is_there(&blob, file) {
            let url =
                client.url(&format!("{}/resolve/{}/{}", reference.repository(), listing.commit, file.path));
            download(&client, &url, file, &blob, &mut on_bytes)?;
            downloaded += 1;
        }
        let path = cache.link(&listing.commit, &file.path, file.digest.digits())?;
        first.get_or_insert(path);
        before += file.size;
        drop(lock);
    }
    cache.set_commit(BRANCH, &listing.commit)?;
    let path = first.ok_or_else(|| no_variant(reference, &all))?;
    Ok(Pulled { name, path, bytes: total, downloaded })
}

/// True if the content is there. Its checksum was compared when it got its name.
fn is_there(blob: &Path, file: &RemoteFile) -> bool {
    fs::metadata(blob).is_ok_and(|there| there.is_file() && there.len() == file.size)
}

/// Refuses a download that the disk has no room for.
fn check_space(cache: &RepoCache, files: &[RemoteFile]) -> Result<(), HubError> {
    let blobs = cache.blobs();
    let lacks = |file: &RemoteFile| {
        let blob = cache.blob(file.digest.digits());
        let part = fs::metadata(with_ending(&blob, ".part")).map_or(0, |part| part.len());
        if is_there(&blob, file) { 0 } else { file.size.saturating_sub(part) }
    };
    let needed = files.iter().map(lacks).fold(0, u64::saturating_add);
    match fs4::available_space(&blobs) {
        Ok(free) if free < needed => Err(HubError::Space { folder: blobs, needed, free }),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!("the free space of {} is not known: {error}", blobs.display());
            Ok(())
        }
    }
}

/// The variant that a reference means, its full name, and true if it is neither given nor the default.
fn choose<'v, T>(
    reference: &Reference,
    all: &'v [Variant<T>],
) -> Result<(&'v Variant<T>, String, bool), HubError> {
    let mut fits = fitting(all, reference.quant().unwrap_or(Pulled::DEFAULT));
    let is_fallback = fits.is_empty() && reference.quant().is_none();
    if is_fallback {
        fits.extend(all.first());
    }
    let labels = labels(all);
    let name = |variant: &Variant<T>| {
        let at = all.iter().position(|other| std::ptr::eq(other, variant)).unwrap_or_default();
        format!("{}:{}", reference.repository(), labels[at])
    };
    match fits[..] {
        [] => Err(no_variant(reference, all)),
        [one] if one.is_complete() => Ok((one, name(one), is_fallback)),
        [one] => Err(HubError::Parts {
            repo: reference.repository(),
            stem: one.stem.clone(),
            found: one.files.len(),
            count: one.count,
        }),
        _ => Err(HubError::Several {
            name: reference.to_string(),
            candidates: fits.into_iter().map(name).collect(),
        }),
    }
}

fn no_variant<T>(reference: &Reference, all: &[Variant<T>]) -> HubError {
    let quant = reference.quant().map(str::to_owned);
    HubError::NoVariant { repo: reference.repository(), quant, there: labels(all) }
}

/// The model in the cache, at the commit that the branch had last.
fn in_cache(
    reference: &Reference,
    options: &HubOptions,
    cache: &RepoCache,
    on_event: OnEvent<'_>,
) -> Result<Pulled, HubError> {
    let offline = || HubError::Offline { what: reference.to_string(), cache: options.cache.clone() };
    let commit = cache.commit(BRANCH).ok_or_else(offline)?;
    let all = variants(gguf_files(&cache.snapshots().join(commit), 8));
    let (chosen, name, is_fallback) = match choose(reference, &all) {
        Err(HubError::NoVariant { .. }) => return Err(offline()),
        other => other?,
    };
    // The repository's first model may be another one than the first that is here.
    if is_fallback && all.len() > 1 {
        let candidates = labels(&all).into_iter().map(|label| format!("{}:{label}", reference.repository()));
        return Err(HubError::Several { name: reference.to_string(), candidates: candidates.collect() });
    }
    let bytes = chosen.files.iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum();
    if on_event(Event::Chosen { name: &name, files: chosen.files.len(), bytes, is_fallback }).is_break() {
        return Err(HubError::Stopped);
    }
    let path = chosen.files.first().cloned().ok_or_else(offline)?;
    Ok(Pulled { name, path, bytes, downloaded: 0 })
}
