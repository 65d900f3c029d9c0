//! Round trips: a written file is read back equal, as one file or as several.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rfgraph::gguf::{Aligned, Array, Gguf, GgufError, GgufWriter, Strings, Value, WriteError};
use rfgraph::tensor::{DType, Shape};
use tempfile::TempDir;

static STORIES: &Aligned<[u8]> = &Aligned(*include_bytes!("../fixtures/stories260K/stories260K-Q4_0.gguf"));

fn stories_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stories260K/stories260K-Q4_0.gguf")
}

/// A value of any type. Floats are numbers: a NaN does not equal itself after reading.
fn value() -> impl Strategy<Value = Value> {
    let list = || 0..6usize;
    let f32s = || -1e30f32..1e30;
    let words = prop::collection::vec(".{0,8}", list());
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        f32s().prop_map(Value::F32),
        (-1e300f64..1e300).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::String),
        words.prop_map(|words| Value::Array(Array::String(words.into_iter().collect()))),
        prop::collection::vec(f32s(), list()).prop_map(Value::from),
        prop::collection::vec(any::<bool>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<u8>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<i8>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<u16>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<i16>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<u32>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<i32>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<u64>(), list()).prop_map(Value::from),
        prop::collection::vec(any::<i64>(), list()).prop_map(Value::from),
        prop::collection::vec(-1e300f64..1e300, list()).prop_map(Value::from),
    ]
}

/// A tensor of any type: its dtype, its shape, and bytes that differ from their neighbours.
fn tensor() -> impl Strategy<Value = (DType, Shape, Vec<u8>)> {
    let dtype = prop::sample::select(DType::all().collect::<Vec<_>>());
    let sizes = prop::collection::vec(1..4usize, 1..=4);
    (dtype, sizes, any::<u8>()).prop_map(|(dtype, mut sizes, seed)| {
        sizes[0] *= dtype.block_elements();
        let shape = Shape::new(&sizes).unwrap();
        let bytes = dtype.row_bytes(sizes[0]).unwrap() * shape.rows();
        (dtype, shape, (0..bytes).map(|i| seed.wrapping_add((i * 7) as u8)).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn written_files_are_read_back(
        pairs in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..8),
        tensors in prop::collection::btree_map("[a-z0-9._]{1,64}", tensor(), 0..6),
        alignment in prop::option::of(3..=12u32),
    ) {
        let mut writer = GgufWriter::new();
        // From back to front: the file keeps the order of insertion, not the order of names.
        for (key, value) in pairs.iter().rev() {
            writer.set(key, value.clone()).unwrap();
        }
        if let Some(exponent) = alignment {
            writer.set("general.alignment", 1u32 << exponent).unwrap();
        }
        for (name, (dtype, shape, data)) in tensors.iter().rev() {
            writer.tensor(name, *dtype, *shape, data).unwrap();
        }
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();

        let alignment = alignment.map_or(32, |exponent| 1 << exponent);
        let gguf = Gguf::from_bytes(file.clone()).unwrap();
        prop_assert_eq!((gguf.version(), gguf.alignment()), (3, alignment));
        prop_assert_eq!(gguf.total_bytes(), file.len() as u64);
        let read = gguf.metadata().iter().filter(|(key, _)| *key != "general.alignment");
        prop_assert!(read.eq(pairs.iter().rev().map(|(key, value)| (key.as_str(), value))));
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (info, (name, (dtype, shape, data))) in gguf.tensors().iter().zip(tensors.iter().rev()) {
            prop_assert_eq!((&info.name, info.dtype, info.shape), (name, *dtype, *shape));
            prop_assert_eq!(gguf.data(info), data);
            prop_assert_eq!(gguf.tensor(name), Some(info));
            prop_assert!(info.offset.is_multiple_of(alignment));
        }
        prop_assert!(gguf.tensor("not there").is_none() && gguf.metadata().get("Not there").is_none());
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut writer = GgufWriter::new();
    writer.set("twin", 1u32).unwrap().tensor("twin", DType::F32, [1], &[0; 4]).unwrap();
    let long = "x".repeat(65536);
    let refusals = [
        writer.set("twin", 2u32).err(),
        writer.set("", 2u32).err(),
        writer.set(&long, 2u32).err(),
        writer.set("general.alignment", 24u32).err(),
        writer.set("general.alignment", 32u64 << 32).err(),
        writer.tensor("twin", DType::F32, [1], &[0; 4]).err(),
        writer.tensor("", DType::F32, [1], &[0; 4]).err(),
        writer.tensor(&long[..65], DType::F32, [1], &[0; 4]).err(),
        writer.tensor("a", DType::F32, [1, 0], &[]).err(),
        writer.tensor("a", DType::Q4_0, [33], &[0; 18]).err(),
        writer.tensor("a", DType::Q4_0, [64, 2], &[0; 71]).err(),
    ];
    let message = |error: Option<WriteError>| error.unwrap().to_string().replace(&long[..60], "…");
    insta::assert_snapshot!(refusals.map(message).join("\n"), @r#"
    metadata key "twin" is there already
    metadata key "" takes 0 bytes, must take 1 to 65535
    metadata key "…xxxxxxxxxxxxxxxxxxxx…" takes 65536 bytes, must take 1 to 65535
    general.alignment is 24, must be a u32 that is a power of two from 8 to 65536
    general.alignment is 137438953472, must be a u32 that is a power of two from 8 to 65536
    tensor name "twin" is there already
    tensor name "" takes 0 bytes, must take 1 to 64
    tensor name "…xxxxx" takes 65 bytes, must take 1 to 64
    tensor "a" of shape [1, 0] has a dimension of size zero
    tensor "a": rows of 33 elements do not fill whole blocks of Q4_0 (32 elements each)
    tensor "a": Q4_0[64, 2] takes 72 bytes, not 71
    "#);
    // The file contains nothing of the refused entries.
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let gguf = Gguf::from_bytes(file).unwrap();
    assert_eq!((gguf.metadata().len(), gguf.tensors().len(), gguf.alignment()), (1, 1, 32));
}

#[test]
fn a_real_model_opens_from_file_and_from_memory() {
    let mapped = Gguf::open(&stories_path()).unwrap();
    let built_in = Gguf::from_bytes(&STORIES.0).unwrap();
    let shared = Gguf::from_bytes(Arc::<[u8]>::from(&STORIES.0)).unwrap();
    for gguf in [&mapped, &built_in, &shared] {
        assert_eq!(gguf.metadata().str("general.architecture"), Ok("llama"));
        assert_eq!(gguf.metadata().u64("llama.block_count"), Ok(5));
        assert_eq!(gguf.metadata().strings("tokenizer.ggml.tokens").unwrap().len(), 512);
        assert_eq!(gguf.tensors(), mapped.tensors());
        for info in gguf.tensors() {
            assert_eq!(gguf.data(info), mapped.data(info));
        }
    }
    // The built-in bytes are used in place.
    let first = &built_in.tensors()[0];
    assert_eq!(built_in.data(first).as_ptr(), STORIES.0[first.offset..].as_ptr());
    mapped.check_length().unwrap();
}

#[test]
fn bytes_at_an_odd_address_are_refused() {
    let mut bytes = vec![0; STORIES.0.len() + 8];
    let start = 8 - bytes.as_ptr().addr() % 8 + 1;
    let start = start % 8;
    bytes[start..][..STORIES.0.len()].copy_from_slice(&STORIES.0);
    let odd: &'static [u8] = &Vec::leak(bytes)[start..][..STORIES.0.len()];
    assert!(matches!(Gguf::from_bytes(odd), Err(GgufError::Unaligned)));
}

#[test]
fn a_model_is_shared_among_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let gguf = Arc::new(Gguf::open(&stories_path()).unwrap());
    shared(&gguf);
    let sum = |gguf: &Gguf| -> u64 {
        gguf.tensors().iter().flat_map(|info| gguf.data(info)).map(|&byte| u64::from(byte)).sum()
    };
    let there = std::thread::spawn({
        let gguf = Arc::clone(&gguf);
        move || sum(&gguf)
    });
    assert_eq!(there.join().unwrap(), sum(&gguf));
}

#[test]
fn unreadable_paths_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = Gguf::open(folder.path()).unwrap_err();
    assert!(matches!(error, GgufError::NotAFile { .. }), "{error}");
    let missing = folder.path().join("no-such-model.gguf");
    let error = Gguf::open(&missing).unwrap_err();
    assert!(error.to_string().contains("no-such-model.gguf"), "{error}");
}

#[test]
fn a_file_that_shrinks_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, &STORIES.0).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    gguf.check_length().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let error = gguf.check_length().unwrap_err();
    assert!(matches!(error, GgufError::Shrunk { opened: 258656, now: 4096, .. }), "{error}");
    // The metadata were copied, so they are still readable.
    assert_eq!(gguf.metadata().str("general.architecture"), Ok("llama"));
}

/// A part of a split model, with one tensor if the name is not empty. `keys` are `split.no`, `.count` and
/// `.tensors.count`.
fn part(keys: [Option<u16>; 3], tensor: &str) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set("general.name", tensor).unwrap();
    for (key, value) in ["split.no", "split.count", "split.tensors.count"].into_iter().zip(keys) {
        if let Some(value) = value {
            writer.set(key, value).unwrap();
        }
    }
    if !tensor.is_empty() {
        writer.tensor(tensor, DType::I32, [2], tensor.repeat(8).into_bytes()).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    file
}

/// Three parts in a folder, one of them replaced by `change`.
fn split_model(change: Option<(usize, Vec<u8>)>) -> (TempDir, [PathBuf; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 2, 3].map(|no| folder.path().join(format!("m-{no:05}-of-00003.gguf")));
    for (no, path) in (0u16..).zip(&paths) {
        let name = ["a", "b", "c"][usize::from(no)];
        fs::write(path, part([Some(no), Some(3), Some(3)], name)).unwrap();
    }
    if let Some((no, file)) = change {
        fs::write(&paths[no], file).unwrap();
    }
    (folder, paths)
}

#[test]
fn the_parts_of_a_split_model_are_one_model() {
    let (_folder, paths) = split_model(None);
    let gguf = Gguf::open(&paths[0]).unwrap();
    assert_eq!(gguf.shard_count(), 3);
    assert_eq!(gguf.metadata().str("general.name"), Ok("a"));
    for (shard, name) in ["a", "b", "c"].into_iter().enumerate() {
        let info = gguf.tensor(name).unwrap();
        assert_eq!((info.shard, gguf.data(info)), (shard, name.repeat(8).as_bytes()));
    }
    gguf.check_length().unwrap();
    let total: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(gguf.total_bytes(), total);
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let all = |no| [Some(no), Some(3), Some(3)];
    let open = |change, which: usize| {
        let (folder, paths) = split_model(change);
        let error = Gguf::open(&paths[which]).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    };
    let mut errors = vec![
        ("a middle part", open(None, 1)),
        ("part of another model", open(Some((1, part([Some(1), Some(4), Some(3)], "b"))), 0)),
        ("part in another place", open(Some((2, part(all(1), "c"))), 0)),
        ("no part at all", open(Some((2, part([None; 3], "c"))), 0)),
        ("other total", open(Some((1, part([Some(1), Some(3), Some(9)], "b"))), 0)),
        ("too few tensors", open(Some((2, part(all(2), ""))), 0)),
        ("tensor in two parts", open(Some((2, part(all(2), "a"))), 0)),
        ("first part without a number", open(Some((0, part([None, Some(3), None], "a"))), 0)),
        ("damaged part", open(Some((1, b"GGUF".to_vec())), 0)),
    ];
    let (folder, paths) = split_model(None);
    let dir = folder.path().display().to_string();
    let of = |path: &Path| Gguf::open(path).unwrap_err().to_string().replace(&dir, "DIR");
    fs::remove_file(&paths[2]).unwrap();
    errors.push(("missing part", of(&paths[0])));
    let renamed = folder.path().join("renamed.gguf");
    fs::rename(&paths[0], &renamed).unwrap();
    errors.push(("renamed part", of(&renamed)));
    let in_memory = Gguf::from_bytes(part(all(0), "a")).unwrap_err().to_string();
    errors.push(("part in memory", in_memory));
    let text: Vec<String> = errors.into_iter().map(|(name, error)| format!("{name}\n    {error}")).collect();
    insta::assert_snapshot!("split_errors", text.join("\n"));
}

#[test]
fn a_split_of_one_part_is_a_file_like_any_other() {
    let gguf = Gguf::from_bytes(part([Some(0), Some(1), Some(1)], "a")).unwrap();
    assert_eq!(gguf.shard_count(), 1);
}

#[test]
fn vocabularies_keep_their_order() {
    let words: Strings = ["z", "", "a", "z"].into_iter().collect();
    let mut file = Vec::new();
    GgufWriter::new().set("words", words.clone()).unwrap().write(&mut file).unwrap();
    assert_eq!(Gguf::from_bytes(file).unwrap().metadata().strings("words"), Ok(&words));
}

#[test]
fn tensor_data_may_be_supplied_while_writing() {
    let mut writer = GgufWriter::new();
    writer.tensor("now", DType::F32, [3, 1], vec![1; 12]).unwrap();
    writer.later("later", DType::F16, [5, 1]).unwrap();
    assert!(matches!(writer.later("now", DType::F32, [1, 1]), Err(WriteError::Duplicate { .. })));
    let mut file = Vec::new();
    let pieces = |name: &str, out: &mut dyn std::io::Write| {
        assert_eq!(name, "later");
        (0..5).try_for_each(|i| out.write_all(&[i, i])).map_err(WriteError::Io)
    };
    writer.write_with(&mut file, pieces).unwrap();
    let gguf = Gguf::from_bytes(file).unwrap();
    assert_eq!(gguf.data(gguf.tensor("later").unwrap()), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(gguf.data(gguf.tensor("now").unwrap()), [1; 12]);
    let missing = writer.write(&mut Vec::new());
    assert!(matches!(missing, Err(WriteError::DataLength { wanted: 10, found: 0, .. })), "{missing:?}");
}
