//! Inputs for the bodies of the fuzz targets, built from pieces of real ones; `PROPTEST_CASES` sets their number.

use proptest::prelude::*;

use super::bodies::{gguf, template, text as bodies};
use super::{TIME, limits};

/// Texts of pieces.
fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![8 => prop::sample::select(pieces).prop_map(String::from), 1 => "\\PC{0,3}"];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

const GBNF: &[&str] = &[
    "root",
    " ::= ",
    "a",
    "b",
    " ",
    "\n",
    "|",
    "(",
    ")",
    "*",
    "+",
    "?",
    "{2,3}",
    "{0,}",
    "{9999}",
    "\"x\"",
    "\"\"",
    "[a-c]",
    "[^x]",
    ".",
    "\\",
    "\"é\\n\"",
    "\nroot ::= ",
    "\na ::= ",
    "\nb ::= ",
    "#c\n",
    "[\\x00-\\U0010FFFF]",
];

const LARK: &[&str] = &[
    "start: ",
    "\na: ",
    "\nb: ",
    "\nA: ",
    " a ",
    " b ",
    " A ",
    "|",
    "(",
    ")",
    "*",
    "+",
    "?",
    "~2..3",
    "{0,3}",
    "\"x\"",
    "/[a-z]+/",
    "/x{3,9}/",
    "\"\"",
    "\n",
    "%ignore / /",
    "%json {}",
    "%regex {}",
    "<|s|>",
    "[a]",
    "&",
    "~",
    "[max_tokens=2]",
    "[lazy]",
    "\"a\"i",
    "/(?i:a|b)*/",
    "\"a\"..\"z\"",
];

const SCHEMA: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"type\":\"object\"",
    "\"type\":\"string\"",
    "\"type\":\"integer\"",
    "\"properties\":{\"a\":",
    "\"required\":[\"a\"]",
    "\"items\":",
    "\"anyOf\":[",
    "\"oneOf\":[",
    "\"allOf\":[",
    "{\"$ref\":\"#\"}",
    "{\"$ref\":\"#/$defs/a\"}",
    "\"$defs\":{\"a\":",
    "\"pattern\":\"^[^\\\"]+$\"",
    "\"pattern\":\"(?!a)b|$\"",
    "\"maxLength\":3",
    "\"minimum\":-1e300",
    "\"maximum\":5",
    "\"multipleOf\":0.1",
    "\"enum\":[1,\"a\",null]",
    "\"const\":",
    "true",
    "false",
    "{}",
    "9007199254740993",
    "\"format\":\"date\"",
    "\"additionalProperties\":",
    "\"patternProperties\":{\"^a\":",
    "\"minProperties\":1",
    "\"not\":{\"const\":0}",
    "\"propertyNames\":",
];

/// A schema whose keywords have values of the right and the wrong kind.
fn nested() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(vec![
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "enum",
        "const",
        "not",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "a",
    ]);
    let leaf = prop::sample::select(vec![
        "1",
        "0",
        "-3",
        "2.5",
        "1e300",
        "9223372036854775808",
        "true",
        "false",
        "null",
        "\"string\"",
        "\"object\"",
        "\"array\"",
        "\"integer\"",
        "\"#\"",
        "\"#/$defs/a\"",
        "\"#/properties/a\"",
        "\"^a[^\\\\\\\\]*$\"",
        "\"a\"",
        "[\"a\"]",
        "{}",
        "[]",
    ]);
    leaf.prop_map(String::from).prop_recursive(5, 40, 5, move |inner| {
        let members = prop::collection::vec((keyword.clone(), inner.clone()), 0..5);
        prop_oneof![
            3 => members.prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            1 => prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    })
}

const PATTERN: &[&str] = &[
    "a",
    "b",
    "é",
    "(",
    ")",
    "(?:",
    "(?!",
    "(?i)",
    "[",
    "]",
    "[^",
    "a-z",
    "&&",
    "{2,3}",
    "{99}",
    "{0,}",
    "|",
    "*",
    "+",
    "?",
    ".",
    "^",
    "$",
    "\\d",
    "\\W",
    "\\b",
    "\\p{L}",
    "\\x41",
    "\\u{1F600}",
    "\\",
    "/",
    "\\/",
    "-",
    "\"",
    "[[:alpha:]]",
    "(a|b)*",
];

/// A GGUF file of pairs and tensors, of which some numbers are wrong.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let number = prop::sample::select(vec![
        0u64,
        1,
        2,
        3,
        4,
        8,
        31,
        32,
        64,
        1 << 20,
        1 << 32,
        1 << 40,
        1 << 62,
        u64::MAX,
    ]);
    let name = "[a-c.]{0,3}|general\\.alignment|tokenizer\\.ggml\\.tokens";
    let pair = (name, 0u32..14, prop::collection::vec(any::<u8>(), 0..24));
    let tensor = (name, prop::collection::vec(number.clone(), 0..4), 0u32..40, number.clone());
    let parts = (prop::collection::vec(pair, 0..4), prop::collection::vec(tensor, 0..4), 0usize..200);
    (parts, prop::option::of((any::<prop::sample::Index>(), number))).prop_map(
        |((pairs, tensors, data), wrong)| {
            let mut file = b"GGUF\x03\0\0\0".to_vec();
            file.extend((tensors.len() as u64).to_le_bytes());
            file.extend((pairs.len() as u64).to_le_bytes());
            for (name, kind, value) in &pairs {
                file.extend((name.len() as u64).to_le_bytes());
                file.extend(name.as_bytes());
                file.extend(kind.to_le_bytes());
                // A value of the size of its kind, mostly.
                let size = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8].get(*kind as usize).copied().unwrap_or(0);
                match *kind {
                    8 => file.extend((value.len() as u64).to_le_bytes().iter().chain(value)),
                    9 => file.extend(
                        [&0u32.to_le_bytes()[..], &(value.len() as u64).to_le_bytes(), value].concat(),
                    ),
                    _ => file.extend(value.iter().chain(&[0; 8]).take(size)),
                }
            }
            for (name, shape, kind, offset) in &tensors {
                file.extend((name.len() as u64).to_le_bytes());
                file.extend(name.as_bytes());
                file.extend((shape.len() as u32).to_le_bytes());
                shape.iter().for_each(|size| file.extend(size.to_le_bytes()));
                file.extend(kind.to_le_bytes());
                file.extend(offset.to_le_bytes());
            }
            file.resize(file.len().next_multiple_of(32) + data, 0);
            if let Some((at, number)) = wrong {
                let at = at.index(file.len() - 8);
                file[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            file
        },
    )
}

proptest! {
    // A failing input is kept as a seed instead.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_gbnf_grammar_or_an_error(text in text(GBNF)) {
        limits::run("gbnf", text.as_bytes(), bodies::gbnf, TIME);
    }

    #[test]
    fn any_text_is_a_lark_grammar_or_an_error(text in text(LARK)) {
        limits::run("lark", text.as_bytes(), bodies::lark, TIME);
    }

    #[test]
    fn any_text_is_a_schema_or_an_error(text in prop_oneof![text(SCHEMA), nested()]) {
        limits::run("schema", text.as_bytes(), bodies::schema, TIME);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in text(PATTERN)) {
        limits::run("pattern", text.as_bytes(), bodies::pattern, TIME);
    }

    #[test]
    fn any_bytes_are_a_vocabulary_or_an_error(
        head in prop::collection::vec(any::<u8>(), 8), texts in prop::collection::vec("[ab▁Ġ <>/s]{0,5}|##a|<0x[0-9A-F]{2}>", 0..20),
    ) {
        let bytes = [&head[..], texts.join("\0").as_bytes()].concat();
        limits::run("vocabulary", &bytes, bodies::vocabulary, TIME);
    }

    #[test]
    fn any_bytes_are_a_file_or_an_error(file in file()) {
        limits::run("gguf", &file, gguf::gguf, TIME);
    }

    #[test]
    fn any_bytes_are_a_prompt_or_an_error(
        pieces in prop::collection::vec(any::<u8>(), 0..60), text in ".{0,60}", is_text: bool,
        messages in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let source = if is_text { text.into_bytes() } else { [&[0], &pieces[..]].concat() };
        limits::run("template", &[&source[..], &[0xFF], &messages].concat(), template::template, TIME);
    }
}
