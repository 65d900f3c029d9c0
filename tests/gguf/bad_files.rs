//! One bad file for every rule of the reader, kept in `tests/fixtures/gguf`, and the message that each one gets. The
//! same files seed the fuzz target.

use std::fs;
use std::path::{Path, PathBuf};

use rfgraph::gguf::{Gguf, Value, check_bytes};

/// A file written by hand, number by number, so that any number can be wrong.
struct Raw(Vec<u8>);

impl Raw {
    fn new(tensors: u64, pairs: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(pairs)
    }

    fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, n: u32) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn str(self, text: impl AsRef<[u8]>) -> Raw {
        self.u64(text.as_ref().len() as u64).bytes(text.as_ref())
    }

    /// A key and a value's type.
    fn key(self, key: &str, value_type: u32) -> Raw {
        self.str(key).u32(value_type)
    }

    fn tensor(self, name: &str, dims: &[u64], element_type: u32, offset: u64) -> Raw {
        let rank = self.str(name).u32(dims.len() as u32);
        dims.iter().fold(rank, |raw, &n| raw.u64(n)).u32(element_type).u64(offset)
    }

    /// Padding to 32 bytes, then `n` bytes of data.
    fn data(mut self, n: usize) -> Raw {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + n, 0);
        self
    }
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q4_0: u32 = 2;

fn numbers() -> Vec<(&'static str, Raw)> {
    let version = |n: u32| Raw(b"GGUF".to_vec()).u32(n).u64(0).u64(0);
    vec![
        ("empty", Raw(vec![])),
        ("magic-cut", Raw(b"GGU".to_vec())),
        ("magic-other", Raw(b"lmgg\x01\0\0\0".to_vec())),
        ("magic-big-endian", Raw(b"FUGG".to_vec()).u32(3)),
        ("version-cut", Raw(b"GGUF\x03".to_vec())),
        ("version-1", version(1)),
        ("version-4", version(4)),
        ("version-big-endian", version(3u32.swap_bytes())),
        ("count-cut", Raw(b"GGUF".to_vec()).u32(3).u32(1)),
        ("count-tensors-huge", Raw::new(u64::MAX, 0)),
        ("count-pairs-huge", Raw::new(0, 1 << 60).data(64)),
        ("count-pairs-one-too-many", Raw::new(0, 2).key("a", U8).bytes(&[1])),
    ]
}

fn metadata() -> Vec<(&'static str, Raw)> {
    let pair = || Raw::new(0, 1);
    let long_key = "k".repeat(65536);
    vec![
        ("key-empty", pair().key("", U8).bytes(&[0; 8])),
        ("key-too-long", pair().key(&long_key, U8).bytes(&[0])),
        ("key-past-end", pair().u64(1 << 40).data(64)),
        ("key-length-overflow", pair().u64(u64::MAX).data(64)),
        ("key-not-utf8", pair().str(b"ab\xff").u32(U8).bytes(&[0])),
        ("key-duplicate", Raw::new(0, 2).key("twin", U8).bytes(&[0]).key("twin", U32).u32(1)),
        ("key-with-escapes", pair().key("\u{1b}[2J\n", 13).data(64)),
        ("value-type-unknown", pair().key("a", 13).data(64)),
        ("value-cut", pair().key("general.file_type", U32).bytes(&[0])),
        ("value-bool", pair().key("a", BOOL).bytes(&[2])),
        ("value-string-past-end", pair().key("general.name", STRING).u64(9).bytes(b"12345678")),
        ("array-nested", pair().key("a", ARRAY).u32(ARRAY).u64(1).u32(U8).u64(0)),
        ("array-type-unknown", pair().key("a", ARRAY).u32(99).u64(1).data(64)),
        ("array-length-huge", pair().key("a", ARRAY).u32(U32).u64(1 << 62).data(64)),
        ("array-of-strings-length-huge", pair().key("a", ARRAY).u32(STRING).u64(1 << 50).data(64)),
        ("array-bool", pair().key("a", ARRAY).u32(BOOL).u64(3).bytes(&[0, 1, 7])),
        (
            "array-string-past-end",
            pair().key("tokenizer.ggml.tokens", ARRAY).u32(STRING).u64(2).str("ok").u64(4),
        ),
        ("alignment-zero", pair().key("general.alignment", U32).u32(0)),
        ("alignment-not-a-power", pair().key("general.alignment", U32).u32(48)),
        ("alignment-too-small", pair().key("general.alignment", U32).u32(4)),
        ("alignment-too-large", pair().key("general.alignment", U32).u32(1 << 17)),
        ("alignment-of-wrong-type", pair().key("general.alignment", STRING).str("32")),
    ]
}

fn tensors() -> Vec<(&'static str, Raw)> {
    let one = || Raw::new(1, 0);
    let two = || Raw::new(2, 0);
    let long_name = "n".repeat(65);
    vec![
        ("tensor-name-empty", one().tensor("", &[1], F32, 0).data(64)),
        ("tensor-name-too-long", one().tensor(&long_name, &[1], F32, 0).data(64)),
        ("tensor-name-not-utf8", one().str(b"\xf0\x9f").data(64)),
        ("tensor-name-duplicate", two().tensor("a", &[1], F32, 0).tensor("a", &[1], F32, 32).data(64)),
        ("tensor-rank", one().tensor("a", &[1, 1, 1, 1, 1], F32, 0).data(64)),
        ("tensor-dimension-zero", one().tensor("a", &[4, 0], F32, 0).data(64)),
        ("tensor-dimension-negative", one().tensor("a", &[u64::MAX], F32, 0).data(64)),
        ("tensor-shape-overflow", one().tensor("a", &[1 << 32, 1 << 32], F32, 0).data(64)),
        ("tensor-bytes-overflow", one().tensor("a", &[1 << 31, 1 << 31], F32, 0).data(64)),
        ("tensor-partial-block", one().tensor("a", &[33, 2], Q4_0, 0).data(64)),
        ("tensor-type-f64", one().tensor("a", &[1], 28, 0).data(64)),
        ("tensor-type-removed", one().tensor("a", &[32], 4, 0).data(64)),
        ("tensor-type-unknown", one().tensor("a", &[32], 4711, 0).data(64)),
        ("tensor-row-cut", one().str("a").u32(1).u64(1).u32(F32).u32(0)),
        ("tensor-misaligned", one().tensor("a", &[1], F32, 16).data(64)),
        ("tensor-past-end", one().tensor("a", &[17], F32, 0).data(64)),
        ("tensor-offset-past-end", one().tensor("a", &[1], F32, 64).data(64)),
        ("tensor-offset-overflow", one().tensor("a", &[1], F32, u64::MAX - 31).data(64)),
        ("tensor-without-data", one().tensor("a", &[1], F32, 0)),
        ("tensors-overlap", two().tensor("a", &[16], F32, 0).tensor("b", &[1], F32, 32).data(64)),
        ("tensors-same-data", two().tensor("a", &[1], F32, 0).tensor("b", &[1], F32, 0).data(64)),
    ]
}

fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let all = numbers().into_iter().chain(metadata()).chain(tensors());
    all.map(|(name, raw)| (name, raw.0)).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf")
}

/// Asserts that the stored files are those of the table. `RFGRAPH_BLESS=1` rewrites them.
fn assert_stored_files_are_the_tables() {
    let mut stored: Vec<String> = Vec::new();
    for (name, bytes) in corpus() {
        let path = folder().join(format!("{name}.gguf"));
        if std::env::var_os("RFGRAPH_BLESS").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name}: run with RFGRAPH_BLESS=1");
        stored.push(format!("{name}.gguf"));
    }
    let mut found: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    stored.sort();
    found.sort();
    assert_eq!(found, stored);
}

#[test]
fn every_bad_file_is_refused_with_offset_field_and_reason() {
    assert_stored_files_are_the_tables();
    let mut messages = String::new();
    for (name, _) in corpus() {
        let path = folder().join(format!("{name}.gguf"));
        let fault = check_bytes(&fs::read(&path).unwrap()).expect_err(name);
        let error = Gguf::open(&path).expect_err(name).to_string();
        assert_eq!(error, format!("{}: {fault}", path.display()));
        messages.push_str(&format!("{name}\n    {fault}\n"));
    }
    insta::assert_snapshot!("messages", messages);
}

/// The opposite case: files just within the rules are accepted.
#[test]
fn files_just_within_the_rules_are_accepted() {
    let long = ("k".repeat(65535), "n".repeat(64));
    let good = [
        ("nothing at all", Raw::new(0, 0)),
        ("version 2", Raw(b"GGUF".to_vec()).u32(2).u64(0).u64(0)),
        ("longest key", Raw::new(0, 1).key(&long.0, U8).bytes(&[0])),
        ("longest name", Raw::new(1, 0).tensor(&long.1, &[1], F32, 0).data(4)),
        ("scalar", Raw::new(1, 0).tensor("a", &[], F32, 0).data(4)),
        ("data to the last byte", Raw::new(1, 0).tensor("a", &[16], F32, 0).data(64)),
        ("neighbours", Raw::new(2, 0).tensor("a", &[8], F32, 0).tensor("b", &[1], F32, 32).data(36)),
        ("any order", Raw::new(2, 0).tensor("a", &[8], F32, 32).tensor("b", &[1], F32, 0).data(64)),
        ("empty values", Raw::new(0, 2).key("a", STRING).str("").key("b", ARRAY).u32(STRING).u64(0)),
    ];
    for (name, raw) in good {
        check_bytes(&raw.0).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
}

/// Some files have a name or an author in Latin-1, which nothing needs.
#[test]
fn texts_that_are_not_utf8_are_refused_only_by_their_getters() {
    let raw = Raw::new(0, 2).key("general.name", STRING).str(b"caf\xe9");
    let raw = raw.key("general.tags", ARRAY).u32(STRING).u64(3).str("ok").str(b"\x80").str("ok");
    check_bytes(&raw.0).unwrap();
    let file = Gguf::from_bytes(raw.0).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.get("general.name"), Some(&Value::NotUtf8(b"caf\xe9".to_vec())));
    let error = metadata.str("general.name").unwrap_err().to_string();
    assert!(error.contains("general.name") && error.contains("string that is not UTF-8"), "{error}");
    let error = metadata.strings("general.tags").unwrap_err().to_string();
    assert!(error.contains("general.tags") && error.contains("element 1 is not UTF-8"), "{error}");
}
