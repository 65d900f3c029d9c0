//! WordPiece, unigram, and byte-pair encoding over characters, against the libraries that define them.
//!
//! `tests/fixtures/text/trained` has tiny vocabularies trained with Hugging Face's `tokenizers` and with
//! `sentencepiece`, and their encodings of about two hundred texts; made by `make_trained.py`.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rfgraph::gguf::Gguf;
use rfgraph::text::{EncodeOptions, StreamDecoder, TOKENIZER_FAMILIES, Tokenizer, VocabData};

const NAMES: [&str; 5] = ["wordpiece-uncased", "wordpiece-cased", "unigram", "unigram-bytes", "characters"];

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const WHOLE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn path(file: String) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/trained").join(file)
}

fn vocabulary(name: &str) -> VocabData {
    VocabData::from_metadata(Gguf::open(&path(format!("{name}.gguf"))).unwrap().metadata()).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::new(vocabulary(name)).unwrap()
}

#[derive(serde::Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn ids_agree_with_the_libraries() {
    let mut failures = Vec::new();
    for name in NAMES {
        let tokenizer = tokenizer(name);
        let texts = std::fs::read_to_string(path(format!("{name}.json"))).unwrap();
        let texts: Vec<Encoded> = serde_json::from_str(&texts).unwrap();
        assert!(texts.len() > 180);
        for Encoded { text, ids } in texts {
            let got = tokenizer.encode(&text, PARSED);
            let spell =
                |ids: &[u32]| ids.iter().map(|&id| tokenizer.token_text(id).unwrap().to_owned()).collect();
            let (got_text, expected_text): (Vec<String>, Vec<String>) = (spell(&got), spell(&ids));
            if got != ids {
                failures.push(format!("{name}: {text:?}: {got_text:?} instead of {expected_text:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn special_tokens_are_added_by_the_familys_rule() {
    let bert = tokenizer("wordpiece-uncased");
    let ids = bert.encode("the", WHOLE);
    assert_eq!((ids[0], ids[ids.len() - 1]), (3, 4));
    assert_eq!(bert.decode(&ids, false), "the");
    assert_eq!(bert.sep(), Some(4));
    let data = VocabData { add_bos: Some(false), add_sep: Some(false), ..vocabulary("wordpiece-uncased") };
    assert_eq!(Tokenizer::new(data).unwrap().encode("the", WHOLE), ids[1..ids.len() - 1]);

    assert_eq!(tokenizer("unigram").encode("the", WHOLE).last(), Some(&1));
    assert_eq!(tokenizer("characters").encode("the", WHOLE).first(), Some(&2));
}

#[test]
fn white_space_beside_a_stripping_token_is_removed() {
    let data = vocabulary("characters");
    let plain = Tokenizer::new(data.clone()).unwrap();
    let (eos, bos) = (1, 2);
    let strict =
        Tokenizer::new(VocabData { strip_before: vec![bos], strip_after: vec![eos], ..data }).unwrap();
    let around = |text: &str| strict.encode(text, PARSED);
    assert_eq!(around("a \n<bos> b"), plain.encode("a<bos> b", PARSED));
    assert_eq!(around("a <eos> \n b"), plain.encode("a <eos>b", PARSED));
    assert_eq!(strict.encode("a <eos> b", PLAIN), plain.encode("a <eos> b", PLAIN));
}

#[test]
fn missing_data_of_a_family_is_named() {
    let refusal = |name: &str, change: fn(&mut VocabData)| {
        let mut data = vocabulary(name);
        change(&mut data);
        Tokenizer::new(data).err().unwrap().to_string()
    };
    for (message, part) in [
        (refusal("unigram", |d| d.unk = None), "tokenizer.ggml.unknown_token_id is missing"),
        (
            refusal("unigram", |d| d.precompiled_charsmap.truncate(9)),
            "tokenizer.ggml.precompiled_charsmap, of 9 bytes",
        ),
        (refusal("wordpiece-cased", |d| d.unk = None), "tokenizer.ggml.model \"bert\" needs it"),
        (
            refusal("characters", |d| {
                d.unk = None;
                d.tokens[4] = "x".into();
            }),
            "no token for the byte 0x00",
        ),
        (
            refusal("characters", |d| d.model = "rwkv".into()),
            "\"rwkv\": not supported; supported are \"gpt2\"",
        ),
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert_eq!(TOKENIZER_FAMILIES.len(), 5);
}

fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        4 => "( the| and|License|work| of|ing|'s|\n\n|   |\t| )",
        2 => "[A-Za-z0-9 .,!?'\n]{1,4}",
        1 => "(<bos>|<0x41>|\\[CLS\\]|▁|é|한|🦙|\u{300}|\u{fffd}|ﬁ|\u{3000}|½)",
        1 => any::<String>(),
    ];
    prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat())
}

thread_local! {
    static TOKENIZERS: [Tokenizer; 5] = NAMES.map(tokenizer);
}

proptest! {
    #[test]
    fn decoding_undoes_encoding_over_characters(text in texts()) {
        TOKENIZERS.with(|[.., characters]| {
            let decoded = characters.decode(&characters.encode(&text, PLAIN), true);
            // U+2581 stands for a space.
            prop_assert_eq!(decoded, text.replace('▁', " "));
            Ok(())
        })?;
    }

    /// Decoding gives a text in the family's normal form, which encoding and decoding do not change.
    #[test]
    fn decoding_undoes_encoding_up_to_normalisation(text in texts()) {
        TOKENIZERS.with(|[.., unigram, _]| {
            let once = unigram.decode(&unigram.encode(&text, PLAIN), true);
            let twice = unigram.decode(&unigram.encode(&once, PLAIN), true);
            prop_assert_eq!(once, twice);
            Ok(())
        })?;
    }

    #[test]
    fn a_stream_of_any_ids_is_the_decoded_whole(ids in prop::collection::vec(0u32..1200, 0..60), keep in any::<bool>()) {
        TOKENIZERS.with(|tokenizers| {
            for tokenizer in tokenizers {
                let mut bytes = Vec::new();
                ids.iter().for_each(|&id| tokenizer.decode_into(id, keep, &mut bytes));
                let mut stream = StreamDecoder::new(tokenizer, keep);
                let mut text: String = ids.iter().map(|&id| stream.push(id).to_owned()).collect();
                text.push_str(stream.finish());
                prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_gives_ids_of_the_vocabulary(text in any::<String>()) {
        TOKENIZERS.with(|tokenizers| {
            for tokenizer in tokenizers {
                let ids = tokenizer.encode(&text, WHOLE);
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
            }
            Ok(())
        })?;
    }
}
