//! Models in a folder that the user keeps: any GGUF file in it, up to three folders deep.

use std::path::Path;

use super::{Entry, Source, last_part};
use crate::hub::cache::gguf_files;
use crate::hub::variant::variants;

const DEPTH: usize = 3;

pub(super) fn list(folder: &Path) -> Vec<Entry> {
    files(folder, DEPTH, Source::Folder)
}

/// The models among the files below a folder; their names are the paths without part number and ending.
pub(super) fn files(folder: &Path, depth: usize, source: Source) -> Vec<Entry> {
    let all = variants(gguf_files(folder, depth)).into_iter().filter(|variant| variant.is_complete());
    let entry = |variant: crate::hub::variant::Variant<_>| {
        let short = last_part(&variant.stem).to_owned();
        let short = vec![format!("{short}.gguf"), short, format!("{}.gguf", variant.stem)];
        Entry::new(variant.stem, source, variant.files, short)
    };
    all.filter_map(entry).collect()
}
