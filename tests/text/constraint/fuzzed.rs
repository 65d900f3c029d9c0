//! The bodies of the fuzz targets, on inputs that are built from pieces of real ones; `PROPTEST_CASES` sets their number.

use proptest::prelude::*;

#[path = "../../../fuzz/bodies/text.rs"]
mod bodies;

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

proptest! {
    #[test]
    fn any_text_is_a_gbnf_grammar_or_an_error(text in text(GBNF)) {
        bodies::gbnf(text.as_bytes());
    }

    #[test]
    fn any_text_is_a_lark_grammar_or_an_error(text in text(LARK)) {
        bodies::lark(text.as_bytes());
    }

    #[test]
    fn any_text_is_a_schema_or_an_error(text in prop_oneof![text(SCHEMA), nested()]) {
        bodies::schema(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_vocabulary_or_an_error(
        head in prop::collection::vec(any::<u8>(), 8), texts in prop::collection::vec("[ab▁Ġ <>/s]{0,5}|##a|<0x[0-9A-F]{2}>", 0..20),
    ) {
        bodies::vocabulary(&[&head[..], texts.join("\0").as_bytes()].concat());
    }
}
