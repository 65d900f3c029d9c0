//! Models in llama.cpp's own cache, `USER_REPO_FILE.gguf`. (Its newer versions use Hugging Face's cache.)

use std::path::Path;

use super::{Entry, Source, folder};

pub(super) fn list(folder: &Path) -> Vec<Entry> {
    folder::files(folder, 0, Source::LlamaCpp)
}
