//! The cost of opening a file: memory in proportion to its metadata, whatever the file claims, and time that does not
//! depend on the size of its data.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[allow(dead_code, reason = "each program counts something else")]
mod counting;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use counting::{Counting, peak_here};
use rfgraph::gguf::{Gguf, GgufWriter, Strings, check_bytes};
use rfgraph::tensor::DType;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Overwrites each number in the header of a 1 KB file with huge and with just possible counts.
#[test]
fn a_small_file_with_huge_counts_allocates_little() {
    let words: Strings = (0..40).map(|i| format!("w{i}")).collect();
    let mut file = Vec::new();
    let mut writer = GgufWriter::new();
    writer.set("words", words).unwrap().set("list", vec![1u32; 50]).unwrap();
    writer.tensor("a", DType::F32, [4], &[0; 16]).unwrap().write(&mut file).unwrap();
    file.resize(1024, 0);
    check_bytes(&file).unwrap();
    for at in 0..file.len() - 8 {
        for bits in [1, 4, 6, 8, 10, 20, 31, 32, 40, 47, 59, 60, 61, 63] {
            let mut bad = file.clone();
            bad[at..at + 8].copy_from_slice(&(1u64 << bits).to_le_bytes());
            let (_, peak) = peak_here(|| check_bytes(&bad));
            assert!(peak < 64 << 10, "{peak} bytes for 2^{bits} at byte {at}");
        }
    }
}

/// The file's size is the bound: the smallest possible pairs and rows, as many as fit.
#[test]
fn the_smallest_entries_cost_a_small_multiple_of_the_file() {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let pairs = 50_000u64;
    file.extend(0u64.to_le_bytes());
    file.extend(pairs.to_le_bytes());
    for pair in 0..pairs {
        let key = format!("{pair:x}");
        file.extend((key.len() as u64).to_le_bytes());
        file.extend(key.as_bytes());
        file.extend([0, 0, 0, 0, 1]);
    }
    let length = file.len();
    // A pair takes 17 bytes of file and about 100 of memory, twice that while the list grows.
    let (gguf, peak) = peak_here(|| Gguf::from_bytes(file).unwrap());
    assert_eq!(gguf.metadata().len(), 50_000);
    assert!(peak < 20 * length, "{peak} bytes for a file of {length}");
}

#[test]
fn a_large_vocabulary_costs_a_small_multiple_of_its_file_size() {
    let tokens: Strings = (0..128_256).map(|i| format!("token{i}")).collect();
    let mut file = Vec::new();
    GgufWriter::new().set("tokenizer.ggml.tokens", tokens).unwrap().write(&mut file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    std::fs::write(&path, &file).unwrap();
    let (gguf, peak) = peak_here(|| Gguf::open(&path).unwrap());
    let tokens = gguf.metadata().strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), tokens.get(128_255)), (128_256, Some("token128255")));
    // Lists double as they grow: up to twice the final size, and both copies at the last step.
    assert!(peak < 3 * file.len(), "{peak} bytes for a file of {}", file.len());
}

/// A file of one gigabyte whose data are a hole: the writer makes the head, `set_len` the rest.
fn sparse_model(path: &Path) {
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    let (tensors, rows) = (256u64, 1024u64);
    head.extend(tensors.to_le_bytes());
    head.extend(0u64.to_le_bytes());
    for tensor in 0..tensors {
        let name = format!("blk.{tensor}.weight");
        head.extend((name.len() as u64).to_le_bytes());
        head.extend(name.as_bytes());
        head.extend(2u32.to_le_bytes());
        head.extend([1024, rows].map(u64::to_le_bytes).concat());
        head.extend(0u32.to_le_bytes());
        head.extend((tensor * rows * 4096).to_le_bytes());
    }
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(head.len().next_multiple_of(32) as u64 + tensors * rows * 4096).unwrap();
}

#[test]
fn a_gigabyte_opens_in_milliseconds_and_kilobytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.gguf");
    sparse_model(&path);
    let open = || {
        let start = Instant::now();
        let (gguf, peak) = peak_here(|| Gguf::open(&path).unwrap());
        (start.elapsed(), peak, gguf)
    };
    // The best of three: another process may use the core during one of them.
    let (time, peak, gguf) = (0..3).map(|_| open()).min_by_key(|(time, ..)| *time).unwrap();
    assert!(gguf.total_bytes() > 1 << 30);
    let last = gguf.tensor("blk.255.weight").unwrap();
    assert_eq!((gguf.data(last).len(), gguf.data(last).last()), (4 << 20, Some(&0)));
    println!("{time:?}, {peak} bytes");
    assert!(time < Duration::from_millis(20), "{time:?}");
    assert!(peak < 256 << 10, "{peak} bytes");
}

/// A hole can claim to be metadata, and costs nothing on disk: the limit on metadata refuses it.
#[test]
fn a_gigabyte_of_metadata_is_refused_before_it_is_copied() {
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    head.extend([0u64, 1, 1].map(u64::to_le_bytes).concat());
    head.push(b'a');
    head.extend([9u32, 0].map(u32::to_le_bytes).concat());
    head.extend((1u64 << 30).to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(2 << 30).unwrap();
    let (error, peak) = peak_here(|| Gguf::open(&path).unwrap_err().to_string());
    let expected = "byte 49: value of \"a\": needs 1073741824 bytes, which makes the metadata larger than \
                    the 1073741824 accepted";
    assert!(error.ends_with(expected), "{error}");
    assert!(peak < 64 << 10, "{peak} bytes");
}
