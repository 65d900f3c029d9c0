//! Tokens that end answers, and what a file may say wrongly of tokens.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use rfgraph::gguf::{Gguf, GgufWriter, Strings, Value};
use rfgraph::text::{ChatTemplate, END_NAMES, EncodeOptions, TokenKind, Tokenizer, VocabData};

const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

static DEMO: LazyLock<VocabData> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
    VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap()
});

/// llama.cpp's list of names (`llama_vocab::impl::load`, September 2026), with those of filling in the middle that it
/// also takes for ends. It is the least that ends an answer here.
const LLAMA_CPP: [&str; 33] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Every kind that a file can give a token, 0 ("undefined") and unknown ones included.
const KINDS: [i32; 9] = [0, 1, 2, 3, 4, 5, 6, 7, -1];

/// A file with the demo's vocabulary and more tokens, each with its kind, and more keys.
fn file_with(more: &[(&str, i32)], keys: &[(&str, Value)]) -> Result<Tokenizer, String> {
    let mut tokens = DEMO.tokens.clone();
    let mut kinds: Vec<i32> = DEMO.kinds.as_ref().unwrap().iter().map(|&kind| kind as i32).collect();
    for (text, kind) in more {
        tokens.push((*text).to_string());
        kinds.push(*kind);
    }
    let strings = |list: &[String]| list.iter().map(String::as_str).collect::<Strings>();
    let mut file = GgufWriter::new();
    let set = |file: &mut GgufWriter, key: &str, value: Value| {
        file.set(key, value).unwrap();
    };
    set(&mut file, "general.architecture", "llama".into());
    set(&mut file, "tokenizer.ggml.model", DEMO.model.as_str().into());
    set(&mut file, "tokenizer.ggml.pre", DEMO.pre.as_deref().unwrap().into());
    set(&mut file, "tokenizer.ggml.tokens", strings(&tokens).into());
    set(&mut file, "tokenizer.ggml.merges", strings(&DEMO.merges).into());
    set(&mut file, "tokenizer.ggml.token_type", Value::from(kinds));
    let named = |key: &str| keys.iter().any(|(other, _)| *other == key);
    for (key, id) in [("tokenizer.ggml.bos_token_id", 0u32), ("tokenizer.ggml.eos_token_id", 0)] {
        if !named(key) {
            set(&mut file, key, id.into());
        }
    }
    for (key, value) in keys {
        set(&mut file, key, value.clone());
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes).unwrap();
    let gguf = Gguf::from_bytes(bytes).unwrap();
    let data = VocabData::from_metadata(gguf.metadata()).map_err(|error| error.to_string())?;
    Tokenizer::new(data).map_err(|error| error.to_string())
}

/// The first added token.
fn added() -> u32 {
    DEMO.tokens.len() as u32
}

#[test]
fn names_of_the_list_end_an_answer_whatever_their_kind() {
    for name in LLAMA_CPP {
        assert!(END_NAMES.iter().any(|end| end.name == name), "{name} is in no table");
    }
    for name in END_NAMES.iter().map(|end| end.name).filter(|name| !DEMO.tokens.iter().any(|t| t == name)) {
        for kind in KINDS {
            let tokenizer = file_with(&[(name, kind)], &[]).unwrap();
            assert!(tokenizer.is_end_of_generation(added()), "{name} of kind {kind}");
            // One token in prompts, no text in answers, and text where control tokens are not parsed.
            assert_eq!(
                tokenizer.encode(&format!("a{name}"), PARSED).last(),
                Some(&added()),
                "{name} of kind {kind}"
            );
            assert_eq!(tokenizer.decode(&[added()], false), "", "{name} of kind {kind}");
            let plain = EncodeOptions { parse_special: false, ..PARSED };
            assert!(!tokenizer.encode(name, plain).contains(&added()), "{name} of kind {kind}");
        }
    }
}

#[test]
fn ids_of_the_file_end_an_answer() {
    let more = [("<|a|>", 3), ("<|b|>", 3), ("<|c|>", 3)];
    let (a, b) = (added(), added() + 1);
    let one = Value::from(a);
    for key in ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        for value in [
            one.clone(),
            Value::from(i64::from(a)),
            Value::from(vec![a]),
            Value::from(vec![b as i32, a as i32]),
        ] {
            let tokenizer = file_with(&more, &[(&key, value.clone())]).unwrap();
            assert!(tokenizer.is_end_of_generation(a), "{key} {value:?}");
            assert!(!tokenizer.is_end_of_generation(b + 1));
        }
    }
    for key in ["eos_token_ids", "eot_token_ids", "eom_token_ids", "eog_token_ids"] {
        let key = format!("tokenizer.ggml.{key}");
        let tokenizer = file_with(&more, &[(&key, Value::from(vec![a, b]))]).unwrap();
        assert!(tokenizer.is_end_of_generation(a) && tokenizer.is_end_of_generation(b), "{key}");
        assert_eq!(tokenizer.end_tokens().len(), 4, "{key}: {:?}", tokenizer.end_tokens());
    }
}

#[test]
fn an_end_that_only_closes_a_message_ends_no_answer() {
    let ends = |names: &[&str]| {
        let more: Vec<(&str, i32)> = names.iter().map(|&name| (name, 3)).collect();
        file_with(&more, &[]).unwrap().is_end_of_generation(added())
    };
    assert!(ends(&["<|end|>"]) && ends(&["<|end|>", "<|return|>"]) && ends(&["<|end|>", "<|calls|>"]));
    assert!(!ends(&["<|end|>", "<|return|>", "<|call|>"]));
    assert!(!ends(&["<|end|>", "<|calls|>", "<|flush|>"]));
    assert!(ends(&["</s>"]) && !ends(&["</s>", "<|tool_response>"]) && !ends(&["</s>", "</table>"]));
}

#[test]
fn a_token_that_the_file_names_is_special_in_prompts() {
    for key in ["bos", "eos", "eot", "padding", "seperator", "eom"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        for kind in [0, 1, 4, 5] {
            let tokenizer = file_with(&[("<|mine|>", kind)], &[(&key, added().into())]).unwrap();
            assert_eq!(tokenizer.kind(added()), Some(TokenKind::Control), "{key} of kind {kind}");
            assert_eq!(tokenizer.encode("x<|mine|>", PARSED).last(), Some(&added()), "{key} of kind {kind}");
        }
    }
    // A comma stays a comma, whatever a file says of it.
    let comma = DEMO.tokens.iter().position(|text| text == ",").unwrap() as u32;
    let tokenizer = file_with(&[], &[("tokenizer.ggml.bos_token_id", comma.into())]).unwrap();
    assert_eq!(tokenizer.kind(comma), Some(TokenKind::Normal));
    assert_eq!(tokenizer.decode(&[comma], false), ",");
}

#[test]
fn ids_out_of_range_count_as_absent() {
    let n = added();
    let plain = file_with(&[], &[]).unwrap();
    for key in ["bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "mask", "fim_pad"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        for wrong in [
            Value::from(n),
            Value::from(u32::MAX),
            Value::from(-1i32),
            Value::from(i64::MIN),
            Value::from(u64::MAX),
            Value::from(1.5f32),
            Value::from(true),
            Value::from("x"),
        ] {
            let tokenizer =
                file_with(&[], &[(&key, wrong.clone())]).unwrap_or_else(|e| panic!("{key} {wrong:?}: {e}"));
            assert_eq!(tokenizer.encode("Once upon", PARSED), plain.encode("Once upon", PARSED));
            assert!(!tokenizer.is_end_of_generation(n));
        }
        let some = file_with(&[], &[(&key, Value::from(vec![5i64, -1, i64::from(n)]))]);
        assert!(some.is_ok(), "{key}: {some:?}");
    }
    // Without a BOS none is added, even if the file asks for one.
    let keys = [
        ("tokenizer.ggml.bos_token_id", Value::from(-1i32)),
        ("tokenizer.ggml.add_bos_token", Value::from(true)),
    ];
    let tokenizer = file_with(&[], &keys).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (None, false));
}

/// A chat needs the template; a plain prompt does not.
#[test]
fn an_unreadable_template_is_an_error_of_chats() {
    for value in [Value::NotUtf8(b"caf\xe9 {{ messages }}".to_vec()), Value::from(5u32)] {
        let tokenizer = file_with(&[], &[("tokenizer.chat_template", value)]).unwrap();
        assert!(!tokenizer.encode("Once upon", PARSED).is_empty());
        let error = ChatTemplate::of(&tokenizer).err().unwrap().to_string();
        assert!(error.contains("tokenizer.chat_template"), "{error}");
    }
}

#[test]
fn kind_zero_counts_as_normal() {
    for kind in [0, 7, -1, i32::MAX] {
        let tokenizer = file_with(&[("Ġzebra", kind)], &[]).unwrap();
        assert_eq!(tokenizer.kind(added()), Some(TokenKind::Normal), "kind {kind}");
        assert_eq!(tokenizer.decode(&[added()], false), " zebra");
    }
}

#[test]
fn bytes_that_are_called_normal_are_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/stories260K-vocab.gguf");
    let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
    let good = Tokenizer::new(data.clone()).unwrap();
    let kinds = data.kinds.clone().unwrap();
    let normal = |kind: &TokenKind| if *kind == TokenKind::Byte { TokenKind::Normal } else { *kind };
    let bad = Tokenizer::new(VocabData { kinds: Some(kinds.iter().map(normal).collect()), ..data }).unwrap();
    for text in ["é", "🦙 and\n<0x41>", "plain"] {
        let ids = good.encode(text, PARSED);
        assert_eq!(bad.encode(text, PARSED), ids);
        assert_eq!(bad.decode(&ids, false), good.decode(&ids, false));
    }
}

proptest! {
    /// Whatever kinds a file gives, its vocabulary opens, and every text has tokens.
    #[test]
    fn kinds_never_refuse_a_file(kinds in prop::collection::vec(-2i32..9, 3), text in any::<String>()) {
        let names = ["<|im_end|>", "Ġzebra", "<0x41>"];
        let more: Vec<(&str, i32)> = names.into_iter().zip(kinds).collect();
        let tokenizer = file_with(&more, &[]).unwrap();
        let ids = tokenizer.encode(&text, PARSED);
        prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
    }
}
