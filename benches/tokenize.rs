//! Text to token ids, on one core.
//!
//! `cargo bench --bench tokenize -- VOCABULARY.gguf…` reads the vocabulary of each GGUF file (also of a model; by
//! default the repository's small vocabularies) and encodes five million bytes of English in one call: the repository's
//! pages and licenses, repeated. The tokenizer caches repeated words, as in any use. For the first figure one word in
//! forty is new, by three random letters in front of it; for the second every word is new.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rfgraph::gguf::Gguf;
use rfgraph::text::{EncodeOptions, Tokenizer, VocabData};

/// The number of times that the text is encoded.
const REPETITIONS: usize = 5;

/// The size of the text.
const BYTES: usize = 5_000_000;

/// English of [`BYTES`] bytes, in which one word in `new_words` is new.
fn english(new_words: usize) -> String {
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
            if next().is_multiple_of(new_words) {
                out.extend((0..3).map(|_| char::from(b'a' + (next() % 26) as u8)));
            }
            out.push_str(word);
        }
    }
    out.truncate((0..=BYTES).rev().find(|&at| out.is_char_boundary(at)).unwrap_or(0));
    out
}

/// CPU time of this thread in seconds, which other programs on the same core do not change; elapsed time if the system
/// does not report it.
fn seconds(since: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| since.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

fn main() {
    let given: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| arg.ends_with(".gguf")).map(PathBuf::from).collect();
    let own = ["demo-vocab.gguf", "stories260K-vocab.gguf"];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text");
    let files = if given.is_empty() { own.map(|name| fixtures.join(name)).to_vec() } else { given };
    let texts = [40, 1].map(english);
    for file in files {
        let data = Gguf::open(&file).ok().and_then(|gguf| VocabData::from_metadata(gguf.metadata()).ok());
        let Some(tokenizer) = data.and_then(|data| Tokenizer::new(data).ok()) else {
            println!("{}: no vocabulary that can be read", file.display());
            continue;
        };
        let rates = texts.each_ref().map(|text| {
            let began = Instant::now();
            let start = seconds(began);
            for _ in 0..REPETITIONS {
                black_box(tokenizer.encode(black_box(text), EncodeOptions::default()));
            }
            (text.len() * REPETITIONS) as f64 / (seconds(began) - start) / 1e6
        });
        println!("{}: {:.1} MB/s, every word new {:.1} MB/s", file.display(), rates[0], rates[1]);
    }
}
