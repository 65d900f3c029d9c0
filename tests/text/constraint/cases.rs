//! Kinds of grammars and schemas that were refused, or followed wrongly.

use std::time::{Duration, Instant};

use rfgraph::text::{ConstraintError, ConstraintFactory};
use serde_json::{Value, json};

use super::{allows, demo_tokenizer};

/// Texts that a schema must allow, and others.
fn check_schema(schema: &Value, yes: &[&str], no: &[&str]) {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let mut constraint =
        factory.json_schema(&schema.to_string()).unwrap_or_else(|error| panic!("{error} for {schema}"));
    for (texts, allowed) in [(yes, true), (no, false)] {
        for text in texts {
            assert_eq!(allows(&tokenizer, &mut constraint, text), allowed, "{text} by {schema}");
        }
    }
}

fn refusal(schema: &Value) -> String {
    let factory = ConstraintFactory::new(&demo_tokenizer()).unwrap();
    match factory.json_schema(&schema.to_string()) {
        Err(ConstraintError::Schema(reason)) => reason,
        other => panic!("{other:?} for {schema}"),
    }
}

/// Case 17.
#[test]
fn bounds_of_64_bits_and_of_doubles_are_kept() {
    let int64 = json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX});
    let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
    check_schema(
        &int64,
        &["0", "-5", &least, &most],
        &["9223372036854775808", "-9223372036854775809", "1.5"],
    );
    let double = json!({"type": "number", "minimum": 0, "maximum": f64::MAX});
    check_schema(&double, &["0", "1.5", "123456789012345678901234567890.5"], &["-1", "-0.5"]);
    let uint64 = json!({"type": "object", "properties": {"n": {"format": "uint64", "type": "integer", "minimum": 0, "maximum": u64::MAX}},
        "required": ["n"], "additionalProperties": false});
    check_schema(
        &uint64,
        &["{\"n\": 18446744073709551615}"],
        &["{\"n\": 18446744073709551616}", "{\"n\": -1}"],
    );
    let open = json!({"type": ["integer", "null"], "exclusiveMinimum": 9007199254740993i64});
    check_schema(&open, &["9007199254740994", "null", "99999999999999999999"], &["9007199254740993", "5"]);
    let negative =
        json!({"type": "array", "items": {"type": "number", "minimum": -f64::MAX, "exclusiveMaximum": 0}});
    check_schema(&negative, &["[-1, -0.5]", "[-99999999999999999999]"], &["[0]", "[1]"]);
    let listed = json!({"enum": [9007199254740993i64, u64::MAX, "a"]});
    check_schema(&listed, &["9007199254740993", "18446744073709551615", "\"a\""], &["9007199254740992", "1"]);
    let merged = json!({"allOf": [{"type": "integer", "maximum": i64::MAX}, {"minimum": 3}]});
    check_schema(&merged, &["3", "1000000000"], &["2", "9223372036854775808"]);
}

/// Case 18.
#[test]
fn references_are_json_pointers() {
    let with = |name: &str, reference: &str| {
        json!({"$defs": {name: {"type": "integer"}}, "properties": {"x": {"$ref": reference}}, "type": "object",
            "required": ["x"], "additionalProperties": false})
    };
    let references = [
        ("a/b", "#/$defs/a~1b"),
        ("a~b", "#/$defs/a~0b"),
        ("~1", "#/$defs/~01"),
        ("a b%", "#/$defs/a%20b%25"),
        ("é\"", "#/$defs/%C3%A9%22"),
        ("", "#/$defs/"),
    ];
    for (name, reference) in references {
        check_schema(&with(name, reference), &["{\"x\": 5}"], &["{\"x\": \"5\"}", "{}"]);
    }
    let anchor = json!({"$ref": "#n", "definitions": {"deep": {"items": {"$anchor": "n", "type": "null"}}}});
    check_schema(&anchor, &["null"], &["1"]);
    let named = json!({"$id": "https://example.com/s", "$ref": "https://example.com/s#/$defs/a", "$defs": {"a": {"const": 1}}});
    check_schema(&named, &["1"], &["2"]);
    let listed = json!({"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/0"}]});
    check_schema(&listed, &["null"], &["1"]);
    let itself =
        json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": false});
    check_schema(&itself, &["{}", "{\"next\": {\"next\": {}}}"], &["{\"next\": 1}"]);
    assert_eq!(refusal(&json!({"items": {"$ref": "#/$defs/a"}})), "#/items/$ref: nothing is at `#/$defs/a`");
    assert_eq!(refusal(&json!({"$ref": "other.json"})), "#/$ref: `other.json` is in another document");
    assert!(
        refusal(&json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}))
            .contains("nothing but itself")
    );
}

/// Case 19.
#[test]
fn unknown_formats_are_annotations() {
    for format in ["password", "binary", "path", "uint8", "date-Time", "json-pointer", "phone"] {
        let schema = json!({"type": "string", "format": format, "maxLength": 8});
        check_schema(&schema, &["\"a b\"", "\"\""], &["1", "\"123456789\""]);
        let nested = json!({"anyOf": [{"format": format, "type": "integer"}, {"items": {"format": format}}]});
        check_schema(&nested, &["5", "[1, \"a\"]", "5.5"], &["]"]);
    }
    check_schema(
        &json!({"type": "string", "format": "date"}),
        &["\"2024-02-29\""],
        &["\"2024-02-30\"", "\"x\""],
    );
}

/// A class without quotes or backslashes, but with control characters, was given their escapes: `^"?[^\\]{2}$` allowed a
/// backslash, in about one of 45 runs of `json_satisfies_its_schema`.
#[test]
fn patterns_are_kept_in_escapes() {
    let string = |text: &str| json!(text).to_string();
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        let quoted = |texts: &[&str]| texts.iter().map(|text| string(text)).collect::<Vec<_>>();
        let (yes, no) = (quoted(yes), quoted(no));
        let refs = |texts: &'_ [String]| -> Vec<String> { texts.to_vec() };
        let (yes, no) = (refs(&yes), refs(&no));
        let strs = |texts: &[String]| -> Vec<&'static str> {
            texts.iter().map(|t| &*Box::leak(t.clone().into_boxed_str())).collect()
        };
        check_schema(&json!({"type": "string", "pattern": pattern}), &strs(&yes), &strs(&no));
    };
    check(r#"^"?[^\\]{2}$"#, &["ab", "\"ab", "\"\"\n"], &["\\a", "a\\", "\"\\a", "a", "abcd"]);
    check(r#"^[^"]*$"#, &["", "a\\b", "\n"], &["\"", "a\"b"]);
    check("b", &["b", "abc", "\"b\\"], &["", "a"]);
    check("^a|b$", &["a", "ax", "xb"], &["xa", "bx"]);
    check("^(?:a|b$)", &["a", "ax", "b"], &["bx", "xa"]);
    check("^$|^(?:ab)+$", &["", "abab"], &["a", "aba"]);
    check(r"^(?!.*\.\.)(?!\.)[a-z.]+$", &["a.b", "a."], &["a..b", ".a", ""]);
    check(r"^(?=.*\d)[a-z\d]{3}$", &["ab1", "1ab"], &["abc", "a1"]);
    check(r"^\d\w\u00e9[\x00-\x1f]$", &["1aé\n", "1aé\u{1}"], &["٣aé\n", "1aée"]);
    check("^.$", &["a", "é", "\"", "\\"], &["", "\n", "ab"]);
    let schema = json!({"type": "string", "pattern": "^[^\\\\]*$", "minLength": 2, "maxLength": 3});
    check_schema(&schema, &["\"ab\"", "\"\\n\\\"a\""], &["\"a\"", "\"\\\\a\"", "\"abcd\""]);
    assert!(
        refusal(&json!({"allOf": [{"type": "string", "pattern": "^[^\"]$"}, {"minLength": 1}]}))
            .starts_with("#/allOf/0/pattern: ")
    );
    assert!(refusal(&json!({"patternProperties": {"^[^\"]$": {}}})).contains("has a class that"));
    assert!(refusal(&json!({"type": "string", "pattern": "a(?<=b)"})).starts_with("#/pattern: "));
    assert!(
        refusal(&json!({"type": "string", "pattern": "^a$", "minLength": 2})).contains("matches no text")
    );
}

/// A keyword that is not kept is named with its path.
#[test]
fn classes_in_patterns_are_those_of_ecma_262() {
    for (pattern, allowed, refused) in [
        ("^[[:alpha:]]{2}$", "a]]", "ni"),
        ("^[[ab]]$", "[]", "a"),
        ("^[+--]$", ",", "a"),
        ("^[a-z--b]$", "_", "+"),
        ("^[a&&b]{2}$", "&a", "cc"),
        ("^[a~~b]$", "~", "c"),
    ] {
        let quoted = |text: &str| format!("\"{text}\"");
        check_schema(
            &json!({"type": "string", "pattern": pattern}),
            &[&quoted(allowed)],
            &[&quoted(refused)],
        );
    }
}

#[test]
fn refusals_name_keyword_and_path() {
    let cases = [
        (
            json!({"properties": {"a": {"items": {"uniqueItems": true}}}}),
            "#/properties/a/items/uniqueItems: ",
        ),
        (
            json!({"$defs": {"a/b": {"if": {}, "then": {}}}, "items": {"$ref": "#/$defs/a~1b"}}),
            "#/$defs/a~1b/if: ",
        ),
        (json!({"anyOf": [{}, {"not": {"type": "string"}}]}), "#/anyOf/1/not: "),
        (json!({"items": {"oneOf": [{"type": "string"}, {"maxLength": 3}]}}), "#/items/oneOf: "),
        (json!({"properties": {"b": {"type": "colour"}}}), "#/properties/b/type: "),
        (json!({"properties": {"b": {"type": "string", "maxLength": -1}}}), "#/properties/b/maxLength: "),
        (json!({"items": {"properties": {"a": {}, "b": {}}, "minProperties": 1}}), "#/items/minProperties: "),
        (json!({"items": 5}), "#/items: "),
        (json!({"contains": {}}), "#/contains: "),
        (json!({"type": "string", "minLength": 5, "maxLength": 3}), "#/minLength: "),
        (json!({"properties": {"a": {}}, "required": "a"}), "#/required: "),
        (json!({"patternProperties": {"^a": {}, "b$": {}}}), "#/patternProperties: "),
        (json!({"type": "string", "pattern": "^(?=.*a)(?=.*b)(?=.*c)(?=.*d).{8,20}$"}), "#/pattern: "),
        (json!({"items": {"pattern": "(?x)a"}}), "#/items/pattern: "),
        (json!({"const": [9007199254740993i64]}), "#/const: "),
    ];
    for (schema, beginning) in cases {
        let reason = refusal(&schema);
        assert!(reason.starts_with(beginning), "{reason} for {schema}");
        assert!(beginning.ends_with(": "), "{beginning}");
    }
}

#[test]
fn choices_that_exclude_each_other_are_kept() {
    let tag = |name: &str, required: bool| {
        json!({"type": "object", "properties": {"kind": {"const": name}, "n": {"type": "integer"}},
        "required": if required { vec!["kind"] } else { vec![] }, "additionalProperties": false})
    };
    let schema = json!({"oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {"a": tag("a", true), "b": tag("b", true)}});
    check_schema(
        &schema,
        &["{\"kind\": \"a\"}", "{\"kind\": \"b\", \"n\": 1}"],
        &["{\"kind\": \"c\"}", "{}"],
    );
    // Without its tag an object would satisfy both.
    let schema = json!({"oneOf": [tag("a", false), tag("b", false)]});
    check_schema(&schema, &["{\"kind\": \"a\"}"], &["{}", "{\"n\": 1}"]);
    let result =
        |name: &str| json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]});
    let schema = json!({"oneOf": [result("Ok"), result("Err")]});
    check_schema(
        &schema,
        &["{\"Ok\": 1}", "{\"Err\": 1}", "{\"Ok\": 1, \"x\": 2}"],
        &["{\"Ok\": 1, \"Err\": 1}", "{}"],
    );
}

/// Texts that a grammar must allow, and others.
fn check_grammar(grammar: &str, yes: &[String], no: &[String]) {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let shown = || grammar.chars().take(100).collect::<String>();
    let mut constraint = factory.grammar(grammar).unwrap_or_else(|error| panic!("{error} for {}", shown()));
    for (texts, allowed) in [(yes, true), (no, false)] {
        for text in texts {
            assert_eq!(allows(&tokenizer, &mut constraint, text), allowed, "{text} by {}", shown());
        }
    }
}

/// Case 20.
#[test]
fn thousands_of_alternatives_are_followed() {
    let words = |n: usize| (0..n).map(|i| format!("w{i:05}")).collect::<Vec<_>>();
    let quoted = |n: usize| words(n).iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
    let yes = ["w00000", "w00777", "w02099"].map(String::from);
    let no = ["w0000", "w02100", "w000000", "x00000"].map(String::from);
    let spread = quoted(2100).chunks(300).map(|part| part.join(" | ")).collect::<Vec<_>>();
    let rules =
        spread.iter().enumerate().map(|(i, part)| format!("r{i} ::= {part}")).collect::<Vec<_>>().join("\n");
    let grammars = [
        format!("root ::= {}", quoted(2100).join(" | ")),
        format!("root ::= (({})){{1}}", quoted(2100).join("|\n")),
        format!("root ::= r0 | r1 | r2 | r3 | r4 | r5 | r6\n{rules}"),
        format!("root ::= ({})?", quoted(2100).join("|")).replace(")?", ")"),
        format!("start: {}", quoted(2100).join(" | ")),
        format!("start: W\nW: {}", quoted(2100).join(" | ")),
    ];
    for grammar in grammars {
        check_grammar(&grammar, &yes, &no);
    }
    check_grammar(
        &format!("root ::= {}", quoted(40_000).join(" | ")),
        &["w39999".into()],
        &["w40000".into()],
    );
}

/// Time for the first half of an answer, and for the second.
fn halves(grammar: &str, text: &str) -> (Duration, Duration) {
    let tokenizer = demo_tokenizer();
    let mut constraint = ConstraintFactory::new(&tokenizer).unwrap().grammar(grammar).unwrap();
    let byte = |c: char| tokenizer.encode(&c.to_string(), Default::default())[0];
    let mut logits = vec![0.0f32; tokenizer.n_vocab()];
    let mut half = |constraint: &mut rfgraph::text::Constraint, text: &str| {
        let start = Instant::now();
        for c in text.chars() {
            logits.fill(0.0);
            constraint.mask(&mut logits).unwrap();
            assert_eq!(logits[byte(c) as usize], 0.0, "{c} by {grammar}");
            constraint.accept(byte(c)).unwrap();
        }
        start.elapsed()
    };
    let (first, second) = text.split_at(text.len() / 2);
    (half(&mut constraint, first), half(&mut constraint, second))
}

/// An answer of 2,000 characters ended in an error, after quadratic time.
#[test]
fn right_recursion_needs_constant_time_per_token() {
    let grammars = [
        "root ::= [a-z] root | \"\"",
        "root ::= \"a\" b | \"z\"\nb ::= \"b\" (root | \"c\")?",
        "root ::= ([a-z] root)?",
        "root ::= list\nlist ::= item | item list\nitem ::= \"ab\" | \"cd\"",
        // With many derivations of each text.
        "root ::= ([^#]+)+ \"#\"?",
        "root ::= ([^#]*)* \"#\"?",
        "root ::= [^#]+ root?",
        "root ::= [a-z]+ root | \"\"",
        "root ::= ([a-z ]+ [^#]*)*",
        "root ::= \"[\" root \"]\" | word*\nword ::= [a-z]+ word?",
        // A rule that is used both by another regular rule and elsewhere.
        "root ::= \"[\" word root \"]\" | list\nword ::= [a-z]+\nlist ::= word \"-\" list | word",
    ];
    for grammar in grammars {
        let (first, second) = halves(grammar, &"ab".repeat(10_000));
        // Quadratic time would be three times as much for the second half, and more than a minute.
        assert!(second < first * 2 + Duration::from_millis(200), "{first:?}, then {second:?}: {grammar}");
    }
}
