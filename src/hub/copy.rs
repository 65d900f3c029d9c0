//! Further names for models: links in the folder of models.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{make_link, make_parent};
use super::{Entry, HubError, Store};

/// The longest name.
const MAX_NAME: usize = 128;

/// The most folders in a name.
const MAX_FOLDERS: usize = 2;

/// Gives a model a further name: a link in the first folder of models, one for each part of a split model. The content is
/// not copied, and [`remove`](super::remove) of any name leaves the content to the others.
///
/// # Errors
/// The name cannot be used, or is that of another model; a link cannot be made.
pub fn copy(store: &Store, entry: &Entry, name: &str) -> Result<(), HubError> {
    let wrong = |reason| HubError::Name { text: name.to_owned(), reason };
    let name = name.strip_suffix(":latest").unwrap_or(name);
    let name = name.strip_suffix(".gguf").unwrap_or(name);
    check(name).map_err(wrong)?;
    if store.preset(name).is_some() || store.entry(name)?.is_some() {
        return Err(wrong("a model has it already"));
    }
    let folder = store.places().folders.first().ok_or_else(|| wrong("there is no folder of models"))?;
    let mut made: Vec<PathBuf> = Vec::new();
    let linked = link_all(folder, entry, name, &mut made);
    // Some names are those of files that are no models.
    let is_found = || store.list().iter().any(|entry| entry.name == name);
    let result = match linked {
        Ok(()) if !is_found() => Err(wrong("files of this name are no models")),
        other => other,
    };
    if result.is_err() {
        made.iter().for_each(|link| _ = fs::remove_file(link));
    }
    result
}

fn link_all(folder: &Path, entry: &Entry, name: &str, made: &mut Vec<PathBuf>) -> Result<(), HubError> {
    let n = entry.files.len();
    for (i, file) in entry.files.iter().enumerate() {
        let part = if n == 1 { String::new() } else { format!("-{:05}-of-{n:05}", i + 1) };
        let link = folder.join(format!("{name}{part}.gguf"));
        make_parent(&link)?;
        let content = fs::canonicalize(file).map_err(HubError::file("read", file))?;
        make_link(&content, &content, &link).map_err(HubError::file("write", &link))?;
        made.push(link);
    }
    Ok(())
}

/// Checks a name, which becomes a path below the folder.
fn check(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let starts_well = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    match name {
        _ if name.len() > MAX_NAME => Err("it has more than 128 characters"),
        _ if !name.split('/').all(starts_well) => Err("each part of it must begin with a letter or a digit"),
        _ if name.matches('/').count() > MAX_FOLDERS => Err("it has more than two `/`"),
        _ if !name.chars().all(|c| is_plain(c) || c == '/') => {
            Err("it may have letters, digits, `-`, `_`, `.`, `:` and `/`")
        }
        _ => Ok(()),
    }
}
