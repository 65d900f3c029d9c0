//! The demo model's tokenizer, for the tests of `text` and `sampling`.

use std::path::Path;
use std::sync::LazyLock;

use super::{Tokenizer, VocabData};
use crate::gguf::Gguf;

/// The demo model's tokenizer. Its vocabulary begins with three special tokens, followed by single characters.
pub(crate) fn demo_tokenizer() -> Tokenizer {
    static OPEN: LazyLock<Tokenizer> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
        let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
        Tokenizer::new(data).unwrap()
    });
    OPEN.clone()
}
