//! Bodies of the fuzz targets for grammars, schemas and vocabularies; the test suite runs them as properties too
//! (`tests/memory/drawn.rs`). Each answers whether the input was accepted.

use std::sync::OnceLock;

use rfgraph::text::{Constraint, ConstraintFactory, EncodeOptions, TokenKind, Tokenizer, VocabData};

/// Most tokens of an answer that is followed.
const ANSWER: usize = 12;

/// Most tokens of the answer of one input in so many: time that grows with each token shows in long answers, which would take
/// most of the time if all were.
const LONG_ANSWER: (usize, u64) = (100, 64);

/// A vocabulary of all bytes, of a few longer tokens, and of one that ends an answer.
fn tokenizer() -> Tokenizer {
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), TokenKind::Byte));
    let words = ["ab", "\"a", "{\"", "\":", "],", "12", "tr", "é", "a b"]
        .map(|word| (word.to_string(), TokenKind::Normal));
    let ends = [("<s>".to_string(), TokenKind::Control), ("</s>".to_string(), TokenKind::Control)];
    let (tokens, kinds): (Vec<String>, Vec<TokenKind>) = bytes.chain(words).chain(ends).unzip();
    let n = tokens.len();
    let data = VocabData {
        model: "llama".into(),
        scores: Some(vec![0.0; n]),
        bos: Some(n as u32 - 2),
        eos: Some(n as u32 - 1),
        tokens,
        kinds: Some(kinds),
        ..VocabData::default()
    };
    Tokenizer::new(data).unwrap_or_else(|error| panic!("{error}"))
}

fn factory() -> &'static (Tokenizer, ConstraintFactory) {
    static FACTORY: OnceLock<(Tokenizer, ConstraintFactory)> = OnceLock::new();
    FACTORY.get_or_init(|| {
        let tokenizer = tokenizer();
        let factory = ConstraintFactory::new(&tokenizer).unwrap_or_else(|error| panic!("{error}"));
        (tokenizer, factory)
    })
}

/// Follows a constraint by some of the allowed tokens, goes back, and follows it again: true.
fn follow(mut constraint: Constraint, n_vocab: usize, seed: u64) -> bool {
    let mut logits = vec![0.0f32; n_vocab];
    let mut state = seed | 1;
    let most = if seed.is_multiple_of(LONG_ANSWER.1) { LONG_ANSWER.0 } else { ANSWER };
    let mut n = 0;
    while n < most && !constraint.is_complete() {
        logits.fill(0.0);
        // An answer that exceeds the library's limits is an error.
        if constraint.mask(&mut logits).is_err() {
            break;
        }
        let allowed: Vec<u32> =
            (0..).zip(&logits).filter(|&(_, &logit)| logit == 0.0).map(|(id, _)| id).collect();
        assert!(!allowed.is_empty(), "a mask without tokens is no error");
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let token = allowed[(state >> 33) as usize % allowed.len()];
        if token as usize == n_vocab - 1 || constraint.accept(token).is_err() {
            break;
        }
        n += 1;
    }
    let _ = constraint.rewind(n / 2);
    let _ = constraint.mask(&mut logits);
    true
}

fn seed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// Any text as a GBNF grammar.
pub fn gbnf(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = if text.contains("::=") { text.into_owned() } else { format!("root ::= {text}") };
    grammar(&text, bytes)
}

/// Any text as a Lark grammar.
pub fn lark(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = if text.contains("start:") { text.into_owned() } else { format!("start: {text}") };
    grammar(&text, bytes)
}

fn grammar(text: &str, bytes: &[u8]) -> bool {
    let (tokenizer, factory) = factory();
    let made = factory.grammar(text);
    made.is_ok_and(|constraint| follow(constraint, tokenizer.n_vocab(), seed(bytes)))
}

/// Any text as a JSON schema.
pub fn schema(bytes: &[u8]) -> bool {
    json_schema(&String::from_utf8_lossy(bytes), bytes)
}

fn json_schema(text: &str, bytes: &[u8]) -> bool {
    let (tokenizer, factory) = factory();
    let made = factory.json_schema(text);
    made.is_ok_and(|constraint| follow(constraint, tokenizer.n_vocab(), seed(bytes)))
}

/// Any text as a regular expression: a schema's `pattern` and a name of properties, then a terminal of Lark.
pub fn pattern(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let schemas = [
        serde_json::json!({"type": "string", "pattern": text}),
        serde_json::json!({"type": "object", "patternProperties": {text.as_ref(): {"type": "null"}}}),
    ];
    let kept = schemas.map(|schema| json_schema(&schema.to_string(), bytes));
    let lark = grammar(&format!("start: /{text}/"), bytes);
    lark || kept.contains(&true)
}

/// Any bytes as a vocabulary, and as texts for it: an accepted vocabulary encodes and decodes any text.
pub fn vocabulary(bytes: &[u8]) -> bool {
    let (head, rest) = bytes.split_at(bytes.len().min(8));
    let at = |index: usize| head.get(index).copied().unwrap_or(0);
    let models = ["llama", "gpt2", "bert", "t5", "gemma4", "rwkv", "none", "plamo2"];
    let mut texts = rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let text = texts.next().unwrap_or_default();
    let merges: Vec<String> = texts.by_ref().take(usize::from(at(1)) % 16).collect();
    let tokens: Vec<String> = texts.collect();
    let n = tokens.len();
    let id = |index: usize| (at(index) != 255).then(|| u32::from(at(index)) % (n as u32 + 2));
    let mixed =
        |index: usize| (u64::from(at(2)) * 31 + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let data = VocabData {
        model: models[usize::from(at(0)) % models.len()].into(),
        pre: (at(3) & 1 == 1)
            .then(|| ["default", "llama-bpe", "qwen2", "gpt-2"][usize::from(at(3) / 2) % 4].into()),
        scores: (at(3) & 8 == 8).then(|| (0..n).map(|index| -(mixed(index) as f32) / 1e6).collect()),
        kinds: (at(3) & 16 == 16).then(|| {
            (0..n)
                .map(|index| TokenKind::from_number(mixed(index) as i64 % 6 + 1).unwrap_or(TokenKind::Normal))
                .collect()
        }),
        bos: id(4),
        eos: id(5),
        unk: id(6),
        precompiled_charsmap: if at(7) & 1 == 1 { text.clone().into_bytes() } else { Vec::new() },
        tokens,
        merges,
        ..VocabData::default()
    };
    let Ok(tokenizer) = Tokenizer::new(data) else { return false };
    for parse_special in [false, true] {
        let ids = tokenizer.encode(&text, EncodeOptions { add_special: parse_special, parse_special });
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
        let _ = tokenizer.decode(&ids, true);
    }
    if let Ok(factory) = ConstraintFactory::new(&tokenizer)
        && let Ok(constraint) = factory.json_schema("true")
    {
        follow(constraint, tokenizer.n_vocab(), seed(bytes));
    }
    true
}
