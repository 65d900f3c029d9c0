//! Text to token ids, on one core.
//!
//! `cargo bench --bench tokenize -- VOCABULARY.gguf…` reads the vocabulary of each GGUF file (a model's will do; without one
//! the repository's small vocabularies) and encodes five million bytes of English in one call: the repository's own pages and
//! licenses again and again, where one word in forty gets three random letters before it. Words that come again in a text
//! are remembered, as in any use; the odd ones are new each time.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rfgraph::gguf::Gguf;
use rfgraph::text::{EncodeOptions, Tokenizer, VocabData};

/// How much text is encoded.
const BYTES: usize = 5_000_000;

/// One word in so many is misspelt.
const NEW_WORDS: usize = 40;

/// English of [`BYTES`] bytes.
fn english() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages =
        ["README.md", "ARCHITECTURE.md", "LICENSE-APACHE", "docs/gpu.md", "docs/adding-an-operator.md"];
    let text: String =
        pages.iter().filter_map(|page| std::fs::read_to_string(root.join(page)).ok()).collect();
    let mut out = String::with_capacity(BYTES + 64);
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    while out.len() < BYTES {
        for word in text.split_inclusive(' ') {
            if next() % NEW_WORDS == 0 {
                out.extend((0..3).map(|_| char::from(b'a' + (next() % 26) as u8)));
            }
            out.push_str(word);
        }
    }
    out.truncate((0..=BYTES).rev().find(|&at| out.is_char_boundary(at)).unwrap_or(0));
    out
}

fn main() {
    let given: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| arg.ends_with(".gguf")).map(PathBuf::from).collect();
    let own = ["demo-vocab.gguf", "stories260K-vocab.gguf"];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text");
    let files = if given.is_empty() { own.map(|name| fixtures.join(name)).to_vec() } else { given };
    let text = english();
    for file in files {
        let data = Gguf::open(&file).ok().and_then(|gguf| VocabData::from_metadata(gguf.metadata()).ok());
        let Some(tokenizer) = data.and_then(|data| Tokenizer::new(data).ok()) else {
            println!("{}: no vocabulary that can be read", file.display());
            continue;
        };
        let mut best = f64::INFINITY;
        let mut count = 0;
        for _ in 0..5 {
            let start = Instant::now();
            count = black_box(tokenizer.encode(black_box(&text), EncodeOptions::default())).len();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let rate = text.len() as f64 / best / 1e6;
        println!("{}: {rate:.1} MB/s, {count} tokens from {} bytes", file.display(), text.len());
    }
}
