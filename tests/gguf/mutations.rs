//! Real and generated files, damaged at random. Whatever the bytes: no panic, and every accepted tensor is inside the
//! file (`check_bytes` asserts it, as the fuzz target does).

use std::sync::LazyLock;

use proptest::prelude::*;
use rfgraph::gguf::{GgufWriter, Strings, check_bytes};
use rfgraph::tensor::DType;

static STORIES: &[u8] = include_bytes!("../fixtures/stories260K/stories260K-Q4_0.gguf");

/// A small file with every type of value, so that a mutation hits each with a good chance.
static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words: Strings = ["a", "bc", "", "def"].into_iter().collect();
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "none").unwrap();
    writer.set("general.alignment", 32u32).unwrap();
    writer.set("u8", 1u8).unwrap().set("i8", -1i8).unwrap().set("u16", 1u16).unwrap();
    writer.set("i16", -1i16).unwrap().set("u64", 1u64).unwrap().set("i64", -1i64).unwrap();
    writer.set("f32", 0.5f32).unwrap().set("f64", 0.5f64).unwrap().set("bool", true).unwrap();
    writer.set("words", words).unwrap().set("list", vec![1i32, -2, 3]).unwrap();
    writer.set("flags", vec![true, false]).unwrap().set("scores", vec![0.25f32; 5]).unwrap();
    writer.tensor("a.weight", DType::F32, [4, 2], &[1; 32]).unwrap();
    writer.tensor("b.weight", DType::Q4_0, [32, 3], &[2; 54]).unwrap();
    writer.tensor("c.weight", DType::F16, [1, 2, 3, 4], &[3; 48]).unwrap();
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    bytes
});

/// One kind of damage. Positions are fractions, so that they suit a file of any length.
#[derive(Clone, Debug)]
enum Damage {
    Truncate(f64),
    Flip(f64, u8),
    /// Replaces eight bytes by a troublesome number.
    Number(f64, u64),
    /// Replaces four bytes by a troublesome number.
    Word(f64, u32),
    /// Copies a piece of the file over another place.
    Splice(f64, f64, usize),
    /// Removes a piece.
    Cut(f64, usize),
    /// Inserts bytes.
    Insert(f64, Vec<u8>),
}

fn troubling_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 31, 32, 33, u64::MAX, u64::MAX - 31, i64::MAX as u64, 1 << 63]),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u64..300),
        any::<u64>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0.0..1.0f64;
    prop_oneof![
        1 => at().prop_map(Damage::Truncate),
        3 => (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        4 => (at(), troubling_number()).prop_map(|(at, n)| Damage::Number(at, n)),
        4 => (at(), prop_oneof![0..44u32, any::<u32>()]).prop_map(|(at, n)| Damage::Word(at, n)),
        2 => (at(), at(), 1..64usize).prop_map(|(from, to, n)| Damage::Splice(from, to, n)),
        1 => (at(), 1..64usize).prop_map(|(at, n)| Damage::Cut(at, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, b)| Damage::Insert(at, b)),
    ]
}

/// Applies the damage to the first `reach` bytes, which hold everything but the tensors' data.
fn apply(file: &mut Vec<u8>, damage: &Damage, reach: usize) {
    let reach = reach.min(file.len());
    let place = |at: f64| (at * reach as f64) as usize;
    let overwrite = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| {
        for (old, new) in file[at..].iter_mut().zip(bytes) {
            *old = *new;
        }
    };
    match damage {
        Damage::Truncate(at) => file.truncate(place(*at)),
        Damage::Flip(at, bits) => file[place(*at)..].iter_mut().take(1).for_each(|byte| *byte ^= bits),
        Damage::Number(at, n) => overwrite(file, place(*at), &n.to_le_bytes()),
        Damage::Word(at, n) => overwrite(file, place(*at), &n.to_le_bytes()),
        Damage::Splice(from, to, n) => {
            let piece: Vec<u8> = file[place(*from)..].iter().take(*n).copied().collect();
            overwrite(file, place(*to), &piece);
        }
        Damage::Cut(at, n) => {
            let (start, end) = (place(*at), (place(*at) + n).min(file.len()));
            file.drain(start..end);
        }
        Damage::Insert(at, bytes) => {
            let start = place(*at);
            file.splice(start..start, bytes.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_damaged_small_file_is_refused_or_sound(damages in prop::collection::vec(damage(), 1..5)) {
        let mut file = SMALL.clone();
        let header = file.len() - 192;
        damages.iter().for_each(|damage| apply(&mut file, damage, header));
        // Refused, or accepted with everything that `check_bytes` asserts.
        let _ = check_bytes(&file);
    }

    #[test]
    fn any_bytes_after_a_good_start_are_refused_or_sound(
        tensors in 0..4u64,
        pairs in 0..4u64,
        rest in prop::collection::vec(prop_oneof![3 => 0..16u8, 1 => any::<u8>()], 0..400),
    ) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(pairs.to_le_bytes());
        file.extend(rest);
        let _ = check_bytes(&file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_model_is_refused_or_sound(
        damages in prop::collection::vec(damage(), 1..4),
        reach in prop_oneof![Just(600usize), Just(13_000), Just(STORIES.len())],
    ) {
        let mut file = STORIES.to_vec();
        damages.iter().for_each(|damage| apply(&mut file, damage, reach));
        let _ = check_bytes(&file);
    }
}

/// The undamaged files are accepted, so the mutations start from valid files and both outcomes occur.
#[test]
fn the_undamaged_files_are_accepted() {
    check_bytes(STORIES).unwrap();
    check_bytes(&SMALL).unwrap();
}

/// Every prefix of a file is refused: only the padding at its end may be missing.
#[test]
fn every_truncation_is_refused() {
    let padding = 16;
    for length in 0..SMALL.len() - padding {
        assert!(check_bytes(&SMALL[..length]).is_err(), "{length} of {}", SMALL.len());
    }
    check_bytes(&SMALL[..SMALL.len() - padding]).unwrap();
}
