//! Real vocabularies give the known ids of their texts.
//!
//! The vocabularies are under their owners' licenses and not in the repository: `RFGRAPH_FIXTURES` names a folder with
//! `tokenizers/ggml-vocab-NAME.gguf`, `.inp` (texts, separated by a line) and `.out` (the ids of each text, one text
//! per line).

use std::fs;
use std::path::{Path, PathBuf};

use rfgraph::gguf::Gguf;
use rfgraph::text::{EncodeOptions, Tokenizer, VocabData};

use crate::support::outside::outside;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// The folder of the vocabularies, if it exists.
fn vocabularies() -> Option<PathBuf> {
    outside("fixtures/tokenizers")
}

fn tokenizer(path: &Path) -> Tokenizer {
    let gguf = Gguf::open(path).unwrap();
    Tokenizer::new(VocabData::from_metadata(gguf.metadata()).unwrap()).unwrap()
}

/// Checks one vocabulary against its texts.
fn check(name: &str) {
    let Some(folder) = vocabularies() else { return };
    let path = folder.join(format!("ggml-vocab-{name}.gguf"));
    let with_end = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let tokenizer = tokenizer(&path);
    let inputs = fs::read_to_string(with_end(".inp")).unwrap();
    let outputs = fs::read_to_string(with_end(".out")).unwrap();
    let texts: Vec<&str> = inputs.strip_suffix(SEPARATOR).unwrap().split(SEPARATOR).collect();
    let expected: Vec<Vec<u32>> =
        outputs.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(expected.len() > 40, "{name}: only {} texts", expected.len());
    assert_eq!(texts.len(), expected.len(), "{name}");
    for (text, expected) in texts.iter().zip(&expected) {
        assert_eq!(&tokenizer.encode(text, EncodeOptions::default()), expected, "{name}: {text:?}");
        assert_eq!(tokenizer.decode(expected, true), *text, "{name}");
    }
}

#[test]
fn gpt_2() {
    check("gpt-2");
}

#[test]
fn llama_bpe() {
    check("llama-bpe");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn falcon() {
    check("falcon");
}

#[test]
fn deepseek_coder() {
    check("deepseek-coder");
}

#[test]
fn llama_spm() {
    check("llama-spm");
}

#[test]
fn special_tokens_are_recognised_or_not() {
    let Some(folder) = vocabularies() else { return };
    let tokenizer = tokenizer(&folder.join("ggml-vocab-llama-bpe.gguf"));
    let text = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>";
    let ids = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
    assert_eq!(ids, [128000, 128006, 882, 128007, 271, 13347, 128009]);
    let plain = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false });
    assert!(plain.iter().all(|&id| id < 128_000), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain, false), text);
    assert!(tokenizer.is_end_of_generation(128009) && tokenizer.is_end_of_generation(128001));
    assert!(!tokenizer.is_end_of_generation(128006));
}
