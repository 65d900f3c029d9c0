//! Models in Hugging Face's cache, whichever program downloaded them.

use std::fs;
use std::path::Path;

use super::{Entry, Source, last_part};
use crate::hub::Reference;
use crate::hub::cache::{RepoCache, gguf_files};
use crate::hub::listing::BRANCH;
use crate::hub::variant::{labels, variants};

/// A model in a repository's cache, with the commit that it is in.
pub(in crate::hub) struct RepoEntry {
    /// The model.
    pub entry: Entry,
    /// The commit.
    pub commit: String,
}

/// Depth of folders in a repository that are searched.
const DEPTH: usize = 8;

pub(super) fn list(hub: &Path) -> Vec<Entry> {
    let folders = fs::read_dir(hub).into_iter().flatten().flatten();
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let repositories = names.filter_map(|name| Reference::of_folder(&name));
    repositories.flat_map(|repo| newest(of_repository(hub, &repo), hub, &repo)).collect()
}

/// All models of a repository, in all commits.
pub(in crate::hub) fn of_repository(hub: &Path, repo: &Reference) -> Vec<RepoEntry> {
    let cache = RepoCache::new(hub, repo);
    let commits = fs::read_dir(cache.snapshots()).into_iter().flatten().flatten();
    let mut commits: Vec<String> = commits.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    commits.sort();
    let of_commit = |commit: String| {
        let all = variants(gguf_files(&cache.snapshots().join(&commit), DEPTH));
        let named = labels(&all).into_iter().zip(all);
        let entries = named.filter(|(_, variant)| variant.is_complete()).filter_map(|(label, variant)| {
            let stem = last_part(&variant.stem).to_owned();
            let repository = repo.repository();
            let name = last_part(&repository).to_owned();
            let mut short = vec![repository.clone(), name.clone(), format!("{name}:{label}")];
            short.extend([format!("{stem}.gguf"), stem, format!("{repository}:{}.gguf", variant.stem)]);
            let full = format!("{repository}:{label}");
            Some(RepoEntry {
                entry: Entry::new(full, Source::HuggingFace, variant.files, short)?,
                commit: commit.clone(),
            })
        });
        entries.collect::<Vec<_>>()
    };
    commits.into_iter().flat_map(of_commit).collect()
}

/// Of models with the same name in several commits, that of the branch. Without one in the branch all are kept, so that
/// the name is ambiguous unless their contents are equal.
fn newest(all: Vec<RepoEntry>, hub: &Path, repo: &Reference) -> Vec<Entry> {
    let branch = RepoCache::new(hub, repo).commit(BRANCH);
    let is_in_branch = |found: &RepoEntry| Some(&found.commit) == branch.as_ref();
    let current: Vec<String> =
        all.iter().filter(|found| is_in_branch(found)).map(|found| found.entry.name.clone()).collect();
    let is_current = |found: &RepoEntry| is_in_branch(found) || !current.contains(&found.entry.name);
    all.into_iter().filter(is_current).map(|found| found.entry).collect()
}
