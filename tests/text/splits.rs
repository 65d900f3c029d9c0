//! Pre-tokenizers, compared with the regular expressions that define them.
//!
//! `tests/fixtures/text/splits.json` has each rule's patterns, and the splits of about two hundred texts by Hugging
//! Face's `tokenizers`; made by `make_splits.py`. Random texts are split by the same patterns with another engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use fancy_regex::Regex;
use proptest::prelude::*;
use rfgraph::text::{PRE_TOKENIZERS, PreTokenizer};

#[derive(serde::Deserialize)]
struct Reference {
    patterns: BTreeMap<String, Vec<String>>,
    texts: Vec<String>,
    splits: BTreeMap<String, Vec<Vec<usize>>>,
}

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/splits.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

fn split<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
    let mut words = Vec::new();
    PreTokenizer::by_name(Some(name)).unwrap().split(text, |word| words.push(word));
    words
}

#[test]
fn every_rule_has_a_reference_and_every_name_one_rule() {
    let mut names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|rule| rule.names()).copied().collect();
    for rule in PRE_TOKENIZERS {
        assert!(rule.names().iter().any(|&name| REFERENCE.splits.contains_key(name)), "{:?}", rule.names());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn splits_agree_with_tokenizers() {
    for (name, splits) in &REFERENCE.splits {
        assert_eq!(splits.len(), REFERENCE.texts.len());
        for (text, expected) in REFERENCE.texts.iter().zip(splits) {
            let mut chars = text.chars();
            let expected: Vec<String> =
                expected.iter().map(|&len| chars.by_ref().take(len).collect()).collect();
            assert_eq!(split(name, text), expected, "{name}: {text:?}");
        }
    }
}

/// Splits pieces at a regular expression's matches, and keeps the text between matches.
fn cut_by<'t>(regex: &Regex, pieces: Vec<&'t str>) -> Vec<&'t str> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut at = 0;
        for found in regex.find_iter(piece).map(Result::unwrap) {
            out.extend([&piece[at..found.start()], found.as_str()]);
            at = found.end();
        }
        out.push(&piece[at..]);
    }
    out.retain(|piece| !piece.is_empty());
    out
}

/// Text of all classes that the rules distinguish: contractions in any case, all kinds of spaces, and others.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        4 => "[ \t\r\n]",
        3 => "[a-zA-Z]{1,3}",
        2 => "'[sStTmMdDſ]|'[rRvVlL][eElL]?|'",
        2 => "[0-9]{1,7}",
        2 => "[!-/:-@\\[-`{-~]",
        1 => "[\u{85}\u{a0}\u{2003}\u{2028}\u{3000}\u{b}\u{c}]",
        1 => "[éßſǅʰ한一龥ࠀ가\u{d7ff}\u{300}\u{1f999}\u{200d}½Ⅷ٣〇々「」—€\u{0}\u{7f}Kのカㄅㄱ，。]",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn each_rule_equals_its_regular_expressions(text in texts()) {
        thread_local! {
            static REGEXES: Vec<(&'static str, Vec<Regex>)> = REFERENCE
                .patterns
                .iter()
                .map(|(name, steps)| {
                    // This engine does not count numbers other than digits as parts of words.
                    let step = |step: &String| step.replace(r"\b", r"(?![\p{Alphabetic}\p{M}\p{N}\p{Pc}])");
                    (name.as_str(), steps.iter().map(|s| Regex::new(&step(s)).unwrap()).collect())
                })
                .collect();
        }
        REGEXES.with(|regexes| {
            for (name, steps) in regexes {
                let expected = steps.iter().fold(vec![text.as_str()], |pieces, step| cut_by(step, pieces));
                let expected: Vec<&str> = expected.into_iter().filter(|piece| !piece.is_empty()).collect();
                prop_assert_eq!(split(name, &text), expected, "{}", name);
            }
            Ok(())
        })?;
    }
}

#[test]
fn examples() {
    assert_eq!(
        split("llama-bpe", "I'LL go,\r\n\n  x12345"),
        ["I", "'LL", " go", ",\r\n\n", " ", " x", "123", "45"]
    );
    assert_eq!(split("qwen2", "a  \n \n b 12"), ["a", "  \n \n", " b", " ", "1", "2"]);
    assert_eq!(split("gpt-4o", "camelCase's HTTPServer"), ["camel", "Case's", " HTTPServer"]);
    assert_eq!(split("superbpe", "so 1234567 it is"), ["so ", "1", "234", "567", " it is"]);
}

#[test]
fn an_unknown_name_has_no_rule() {
    assert!(PreTokenizer::by_name(Some("gpt2")).is_none());
}
