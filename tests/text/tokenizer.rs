//! Tokenizers, compared with their definitions and the demo model's reference, on two small vocabularies.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rfgraph::gguf::Gguf;
use rfgraph::text::{
    EncodeOptions, PreTokenizer, StreamDecoder, TokenKind, Tokenizer, TokenizerError, VocabData,
};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const WHOLE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text").join(name)
}

fn vocabulary(name: &str) -> VocabData {
    VocabData::from_metadata(Gguf::open(&fixture(name)).unwrap().metadata()).unwrap()
}

pub static DEMO_DATA: LazyLock<VocabData> = LazyLock::new(|| vocabulary("demo-vocab.gguf"));
pub static DEMO: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::new(DEMO_DATA.clone()).unwrap());
static STORIES_DATA: LazyLock<VocabData> = LazyLock::new(|| vocabulary("stories260K-vocab.gguf"));
static STORIES: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::new(STORIES_DATA.clone()).unwrap());

/// Compares texts with their ids, BOS included.
fn assert_reference(tokenizer: &Tokenizer, name: &str) {
    let texts: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap();
    let texts = texts.as_array().unwrap();
    assert!(!texts.is_empty());
    for text in texts {
        let ids: Vec<u32> = serde_json::from_value(text["tokens"].clone()).unwrap();
        let text = text["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, WHOLE), ids);
        assert_eq!(tokenizer.encode_chat(text), ids);
        assert_eq!(tokenizer.decode(&ids[1..], true), text);
    }
}

#[test]
fn the_demo_texts_have_their_ids() {
    assert_reference(&DEMO, "demo-texts.json");
}

#[test]
fn the_stories_prompt_has_its_ids() {
    assert_reference(&STORIES, "stories260K-texts.json");
}

#[test]
fn bos_is_added_once() {
    let with_bos = format!("{}x", DEMO.token_text(DEMO.bos().unwrap()).unwrap());
    assert_eq!(DEMO.encode_chat(&with_bos), DEMO.encode_chat("x"));
    assert_eq!(DEMO.encode_chat("x")[0], DEMO.bos().unwrap());
}

/// Among pieces with the same score the leftmost pair merges first.
/// The vocabulary of stories with other scores.
fn stories_with(scores: Option<Vec<f32>>) -> Tokenizer {
    Tokenizer::new(VocabData { scores, ..STORIES_DATA.clone() }).unwrap()
}

#[test]
fn scores_matter_for_common_texts() {
    let zeros = stories_with(Some(vec![0.0; STORIES_DATA.tokens.len()]));
    let texts = ["Once upon a time", "sometimes something stands there"];
    assert!(texts.iter().any(|text| zeros.encode(text, WHOLE) != STORIES.encode(text, WHOLE)));
}

proptest! {
    #[test]
    fn absent_scores_are_zeros(words in prop::collection::vec("([a-z]{1,4}|the|some|happy|Lily's|é1)[ ,.\n]{0,2}", 0..12)) {
        static ABSENT: LazyLock<Tokenizer> = LazyLock::new(|| stories_with(None));
        static ZEROS: LazyLock<Tokenizer> =
            LazyLock::new(|| stories_with(Some(vec![0.0; STORIES_DATA.tokens.len()])));
        let text = words.concat();
        prop_assert_eq!(ABSENT.encode(&text, WHOLE), ZEROS.encode(&text, WHOLE));
        prop_assert_eq!(ABSENT.decode(&ABSENT.encode(&text, PLAIN), true), text);
    }
}

#[test]
fn tokens_that_end_an_answer() {
    let ends: Vec<u32> = (0..DEMO.n_vocab() as u32).filter(|&id| DEMO.is_end_of_generation(id)).collect();
    assert_eq!(ends, [0, 2]);
    assert!(STORIES.is_end_of_generation(2) && !STORIES.is_end_of_generation(1));
}

#[test]
fn control_tokens_in_text_are_text_unless_parsed() {
    let text = "<|im_start|>user<|im_end|>";
    assert_eq!(DEMO.encode(text, PARSED).first(), Some(&1));
    for tokenizer in [&*DEMO, &*STORIES] {
        for text in [text, "a<s>b</s><unk>", "<0x41>"] {
            let ids = tokenizer.encode(text, PLAIN);
            assert!(ids.iter().all(|&id| tokenizer.kind(id) != Some(TokenKind::Control)), "{text}: {ids:?}");
            assert_eq!(tokenizer.decode(&ids, false), text);
        }
    }
}

#[test]
fn merges_never_make_a_control_token() {
    let mut data = DEMO_DATA.clone();
    let the = data.tokens.iter().position(|token| token == "Ġthe").unwrap();
    assert!(DEMO.encode("at the end", PLAIN).contains(&(the as u32)));
    data.kinds.as_mut().unwrap()[the] = TokenKind::Control;
    let tokenizer = Tokenizer::new(data).unwrap();
    let ids = tokenizer.encode("at the end", PLAIN);
    assert!(!ids.contains(&(the as u32)));
    assert_eq!(tokenizer.decode(&ids, false), "at the end");
}

#[test]
fn decoding_hides_special_tokens_and_removes_the_prefix_space() {
    let ids = STORIES.encode("Once", WHOLE);
    assert_eq!(ids[0], 1);
    assert_eq!(STORIES.decode(&ids, false), "Once");
    assert_eq!(STORIES.decode(&ids, true), "<s>Once");
    let mut answer = StreamDecoder::new(&STORIES, false);
    assert_eq!(ids.iter().map(|&id| answer.push(id).to_owned()).collect::<String>(), " Once");
    assert_eq!(STORIES.decode(&[u32::MAX, 512], true), "");
}

#[test]
fn invalid_bytes_become_replacement_characters() {
    let byte =
        |byte: u8| STORIES_DATA.tokens.iter().position(|t| *t == format!("<0x{byte:02X}>")).unwrap() as u32;
    let mut stream = StreamDecoder::new(&STORIES, false);
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(0x82)), "");
    assert_eq!(stream.push(byte(b'a')), "\u{fffd}a");
    assert_eq!(stream.push(byte(0xff)), "\u{fffd}");
    assert_eq!(stream.push(byte(0xf0)), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

/// Merges by the definition: find the best pair, merge it, begin again.
fn merge_slowly(mut parts: Vec<String>, rank: impl Fn(&str, &str) -> Option<(f64, usize)>) -> Vec<String> {
    loop {
        let ranked = (1..parts.len()).filter_map(|i| {
            let (order, tie) = rank(&parts[i - 1], &parts[i])?;
            Some((order, tie, i))
        });
        let Some((_, _, i)) = ranked.min_by(|a, b| a.partial_cmp(b).unwrap()) else { return parts };
        let right = parts.remove(i);
        parts[i - 1].push_str(&right);
    }
}

/// The characters of GPT-2's byte alphabet, spelled out as its source does.
fn byte_characters() -> Vec<char> {
    let shown =
        |byte: u32| (33..127).contains(&byte) || (161..173).contains(&byte) || (174..256).contains(&byte);
    let mut moved = (256..).filter_map(char::from_u32);
    (0..256)
        .map(|byte| if shown(byte) { char::from_u32(byte).unwrap() } else { moved.next().unwrap() })
        .collect()
}

/// Byte-level BPE by its definition, for text without special tokens.
fn bpe_slowly(data: &VocabData, text: &str) -> Vec<u32> {
    let ids: HashMap<&str, u32> = data.tokens.iter().map(String::as_str).zip(0..).collect();
    let ranks: HashMap<&str, usize> = data.merges.iter().map(String::as_str).zip(0..).collect();
    let structure = |text: &str| data.kinds.as_ref().unwrap()[ids[text] as usize] == TokenKind::Control;
    let alphabet = byte_characters();
    let mut out = Vec::new();
    PreTokenizer::by_name(data.pre.as_deref()).unwrap().split(text, |word| {
        let parts = word.bytes().map(|byte| alphabet[byte as usize].to_string()).collect();
        let merged = merge_slowly(parts, |left, right| {
            let rank = *ranks.get(format!("{left} {right}").as_str())?;
            (!structure(&format!("{left}{right}"))).then_some((rank as f64, 0))
        });
        out.extend(merged.iter().map(|part| ids[part.as_str()]));
    });
    out
}

/// SentencePiece by its definition, for text without special tokens.
fn spm_slowly(data: &VocabData, text: &str) -> Vec<u32> {
    let kinds = data.kinds.as_ref().unwrap();
    let ids: HashMap<&str, usize> = data.tokens.iter().map(String::as_str).zip(0..).collect();
    let piece = |text: &str| ids.get(text).copied().filter(|&id| kinds[id] == TokenKind::Normal);
    if text.is_empty() {
        return Vec::new();
    }
    let parts = format!(" {text}").replace(' ', "▁").chars().map(String::from).collect();
    let merged = merge_slowly(parts, |left, right| {
        let id = piece(&format!("{left}{right}"))?;
        Some((-f64::from(data.scores.as_ref().unwrap()[id]), 0))
    });
    let mut out = Vec::new();
    for part in merged {
        match piece(&part) {
            Some(id) => out.push(id as u32),
            None => out.extend(part.bytes().map(|byte| ids[format!("<0x{byte:02X}>").as_str()] as u32)),
        }
    }
    out
}

/// The stories' vocabulary with pieces that contain spaces inside, where text must not be split.
static ACROSS_DATA: LazyLock<VocabData> = LazyLock::new(|| {
    let mut data = STORIES_DATA.clone();
    for (id, piece) in (500..).zip(["e▁", "e▁t", "▁▁", "d▁the", "d▁", "▁▁▁", "s▁"]) {
        data.tokens[id] = piece.into();
        data.scores.as_mut().unwrap()[id] = -(id as f32);
    }
    data
});

/// Text of words of the vocabularies, their special tokens, spaces, and anything else.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        4 => "[a-z]{1,8}",
        3 => "( the| and|once upon| little|Lily| was| It's|'ll|\n\n|   |\t)",
        2 => "[A-Z0-9 .,!?'\n]{1,4}",
        1 => "(<\\|im_start\\|>|<\\|im_end\\|>|<s>|</s>|<unk>|<0x0A>|▁|Ġ|é|한|🦙|\u{300}|\u{fffd})",
        1 => any::<String>(),
    ];
    prop::collection::vec(parts, 0..12).prop_map(|parts| parts.concat())
}

/// A real vocabulary with a few entries replaced by arbitrary ones.
fn vocabularies() -> impl Strategy<Value = VocabData> {
    let kinds = prop::sample::select(vec![1, 2, 3, 4, 5, 6]);
    let token = "([a-c▁Ġ]{0,3}|<0x[0-9A-G]{2}>|<s>|\\PC{0,2})";
    let tokens = prop::collection::vec(
        (prop_oneof![60 => 262usize..512, 1 => 0usize..262], token, kinds, any::<f32>()),
        0..40,
    );
    let merges =
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec("[a-eĠ ]{0,2} [a-eĠ ]{0,2}", 1..4)];
    let id = || prop::option::of(prop_oneof![20 => 0u32..512, 1 => 500u32..2000]);
    let flags = (any::<bool>(), any::<bool>(), prop::option::of(any::<bool>()), any::<bool>());
    (any::<bool>(), tokens, merges, (id(), id(), id()), flags).prop_map(
        |(spm, tokens, merges, (bos, eos, unk), (with_kinds, keep_merges, add_bos, add_eos))| {
            let mut data = if spm { STORIES_DATA.clone() } else { DEMO_DATA.clone() };
            for (id, text, kind, score) in tokens {
                data.tokens[id] = text;
                data.kinds.as_mut().unwrap()[id] = TokenKind::from_number(kind).unwrap();
                data.scores.iter_mut().for_each(|scores| scores[id] = score);
            }
            let mut merges = merges;
            if keep_merges {
                merges.append(&mut data.merges);
            }
            let kinds = data.kinds.take().filter(|_| with_kinds);
            VocabData { merges, kinds, bos, eos, unk, add_bos, add_eos: Some(add_eos), ..data }
        },
    )
}

proptest! {
    #[test]
    fn bpe_follows_its_definition(text in texts()) {
        prop_assert_eq!(DEMO.encode(&text, PLAIN), bpe_slowly(&DEMO_DATA, &text));
    }

    #[test]
    fn spm_follows_its_definition(text in texts()) {
        prop_assert_eq!(STORIES.encode(&text, PLAIN), spm_slowly(&STORIES_DATA, &text));
    }

    #[test]
    fn spm_follows_its_definition_across_spaces(text in "( the|e|d|s| |   |a|▁|é){0,40}") {
        thread_local!(static ACROSS: Tokenizer = Tokenizer::new(ACROSS_DATA.clone()).unwrap());
        let ids = ACROSS.with(|across| across.encode(&text, PLAIN));
        prop_assert_eq!(ids, spm_slowly(&ACROSS_DATA, &text));
    }

    #[test]
    fn any_vocabulary_is_refused_or_works(data in vocabularies(), text in any::<String>()) {
        if let Ok(tokenizer) = Tokenizer::new(data) {
            for options in [PLAIN, PARSED, WHOLE] {
                let ids = tokenizer.encode(&text, options);
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
                tokenizer.decode(&ids, true);
            }
        }
    }

    #[test]
    fn decoding_undoes_encoding(text in texts()) {
        for options in [PLAIN, PARSED] {
            prop_assert_eq!(&DEMO.decode(&DEMO.encode(&text, options), true), &text);
        }
        // SentencePiece cannot tell U+2581 from a space.
        prop_assert_eq!(STORIES.decode(&STORIES.encode(&text, PLAIN), true), text.replace('▁', " "));
    }

    #[test]
    fn a_stream_of_any_ids_is_the_decoded_whole(ids in prop::collection::vec(0u32..600, 0..60), keep in any::<bool>()) {
        for tokenizer in [&*DEMO, &*STORIES] {
            let mut bytes = Vec::new();
            ids.iter().for_each(|&id| tokenizer.decode_into(id, keep, &mut bytes));
            let mut stream = StreamDecoder::new(tokenizer, keep);
            let mut text: String = ids.iter().map(|&id| stream.push(id).to_owned()).collect();
            text.push_str(stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn streamed_text_is_whole_characters(text in texts()) {
        let mut stream = StreamDecoder::from_start(&DEMO, true);
        for id in DEMO.encode(&text, PLAIN) {
            let piece = stream.push(id).to_owned();
            prop_assert!(text.contains('\u{fffd}') || !piece.contains('\u{fffd}'), "{piece:?} of {text:?}");
        }
        prop_assert_eq!(stream.finish(), "");
    }
}

/// A limit for a million characters. A quadratic algorithm takes minutes; ours takes well under a second, so a busy
/// machine does not fail.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn encoding_equal_characters_is_not_quadratic() {
    for text in ["a", " ", "<", "1", "\n", "'", "é", "▁"] {
        let text = text.repeat(1_000_000);
        for tokenizer in [&*DEMO, &*STORIES] {
            let start = Instant::now();
            let ids = tokenizer.encode(&text, PARSED);
            assert!(start.elapsed() < PATIENCE, "{:?} took {:?}", &text[..4], start.elapsed());
            assert_eq!(
                tokenizer.decode(&ids, true),
                text.replace('▁', if tokenizer.kind(3) == Some(TokenKind::Byte) { " " } else { "▁" })
            );
        }
    }
}

/// The error message for a changed vocabulary.
fn refusal(data: &VocabData, change: impl FnOnce(&mut VocabData)) -> String {
    let mut data = data.clone();
    change(&mut data);
    Tokenizer::new(data).expect_err("it is refused").to_string()
}

#[test]
fn contradictory_vocabularies_are_refused_by_name() {
    let demo = |change: fn(&mut VocabData)| refusal(&DEMO_DATA, change);
    let stories = |change: fn(&mut VocabData)| refusal(&STORIES_DATA, change);
    for (message, part) in [
        (demo(|d| d.model = "rwkv".into()), "tokenizer.ggml.model is \"rwkv\""),
        (demo(|d| d.model = "none".into()), "no tokenizer"),
        (
            demo(|d| d.pre = Some("klingon".into())),
            "\"klingon\": not supported; supported are \"default\", \"gpt-2\"",
        ),
        (demo(|d| d.tokens.clear()), "tokenizer.ggml.tokens is empty"),
        (
            demo(|d| d.kinds = Some(vec![TokenKind::Normal])),
            "token_type has 1 entries; tokenizer.ggml.tokens has 1792",
        ),
        (demo(|d| d.bos = None), "tokenizer.ggml.bos_token_id is missing"),
        (demo(|d| d.merges.push("ab".into())), "merges[1498] is \"ab\""),
        (demo(|d| d.merges.push("a ".into())), "merges[1498] is \"a \""),
        (demo(|d| d.merges.push("z qqq".into())), "merges[1498] is \"z qqq\", but \"qqq\" is not"),
        (
            demo(|d| d.tokens.iter_mut().filter(|t| *t == "~").for_each(|t| t.push('~'))),
            "no token for the byte 0x7E",
        ),
        (stories(|d| d.scores.as_mut().unwrap()[7] = f32::NAN), "scores[7] is not a number"),
        (
            stories(|d| {
                d.unk = None;
                d.tokens[5] = "x".into()
            }),
            "no token for the byte 0x02",
        ),
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn a_missing_tokenizer_is_not_an_unknown_one() {
    let none = Tokenizer::new(VocabData { model: "none".into(), ..VocabData::default() });
    assert!(matches!(none, Err(TokenizerError::NoTokenizer(_))));
    assert!(matches!(Tokenizer::new(VocabData::default()), Err(TokenizerError::NoTokenizer(_))));
}

#[test]
fn a_vocabulary_without_kinds_knows_its_named_tokens() {
    let tokenizer = Tokenizer::new(VocabData { kinds: None, ..STORIES_DATA.clone() }).unwrap();
    assert_eq!(tokenizer.encode("<s>Once", PARSED), STORIES.encode("<s>Once", PARSED));
    assert_eq!(tokenizer.encode("é", PLAIN), STORIES.encode("é", PLAIN));
}

#[test]
fn user_defined_tokens_are_one_token_always() {
    let mut data = DEMO_DATA.clone();
    data.tokens[1791] = "onc".into();
    data.kinds.as_mut().unwrap()[1791] = TokenKind::UserDefined;
    let tokenizer = Tokenizer::new(data).unwrap();
    for options in [PLAIN, PARSED] {
        let ids = tokenizer.encode("at once", options);
        assert!(ids.contains(&1791), "{ids:?}");
        assert_eq!(tokenizer.decode(&ids, false), "at once");
    }
}
