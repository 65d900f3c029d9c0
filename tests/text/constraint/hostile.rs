//! Grammars and schemas that are deep, long or circular end in an answer or an error, and soon.

use std::time::{Duration, Instant};

use rfgraph::text::{ConstraintError, ConstraintFactory};
use serde_json::{Map, Value, json};

use super::demo_tokenizer;

/// The time in which anything is compiled or refused: more than the promised 2 s, since tests run beside others.
const SOON: Duration = Duration::from_secs(10);

fn soon(
    name: &str,
    made: impl FnOnce(&ConstraintFactory) -> Result<(), ConstraintError>,
) -> Result<(), String> {
    let factory = ConstraintFactory::new(&demo_tokenizer()).unwrap();
    let start = Instant::now();
    let made = made(&factory);
    assert!(start.elapsed() < SOON, "{name} took {:?}", start.elapsed());
    made.map_err(|error| {
        let error = error.to_string();
        assert!(!error.contains("backtrace"), "{name}: {error}");
        error
    })
}

fn grammar(name: &str, text: &str) -> Result<(), String> {
    soon(name, |factory| factory.grammar(text).map(drop))
}

fn schema(name: &str, schema: &Value) -> Result<(), String> {
    soon(name, |factory| factory.json_schema(&schema.to_string()).map(drop))
}

/// Rules that use each other in a row.
fn chain(n: usize, first: &str, is: &str, rule: impl Fn(usize) -> String) -> String {
    let rules: Vec<String> = (0..n).map(|i| format!("r{i}{is}{}", rule(i + 1))).collect();
    format!("{first}{is}r0\n{}\nr{n}{is}\"c\"\n", rules.join("\n"))
}

/// Case 30.
#[test]
fn chains_of_rules_do_not_abort() {
    let gbnf = |rule: &dyn Fn(usize) -> String| chain(3000, "root", " ::= ", rule);
    grammar("chain", &gbnf(&|i| format!("\"a\" r{i} | \"b\""))).unwrap();
    grammar("heads", &gbnf(&|i| format!("r{i} \"a\" | \"b\""))).unwrap();
    grammar("options", &gbnf(&|i| format!("(\"a\" (r{i})?)?"))).unwrap();
    grammar("units", &gbnf(&|i| format!("r{i}"))).unwrap();
    let _ = grammar("doubled", &gbnf(&|i| format!("r{i} r{i}?")));
    let _ = grammar("long", &chain(30_000, "root", " ::= ", |i| format!("\"a\" r{i} | \"b\"")));
    let lark = |rule: &dyn Fn(usize) -> String| chain(3000, "start", ": ", rule);
    grammar("lark", &lark(&|i| format!("\"a\" r{i} | \"b\""))).unwrap();
    let _ = grammar("lark options", &lark(&|i| format!("(\"a\" r{i}?)*")));
    let _ = grammar(
        "lark terminals",
        &lark(&|i| format!("\"a\" r{i}")).replace('r', "R").replace("staRt", "start"),
    );
    let _ = grammar("lark long", &chain(19_000, "start", ": ", |i| format!("\"a\" r{i}")));
    let _ = grammar(
        "lark long terminals",
        &chain(15_000, "sta%t", ": ", |i| format!("\"a\" r{i}")).replace('r', "R").replace('%', "r"),
    );
}

#[test]
fn deep_and_large_grammars_do_not_abort() {
    for n in [101, 3000, 100_000] {
        let open = |open: &str, close: &str| format!("{}\"a\"{}", open.repeat(n), close.repeat(n));
        assert!(grammar("groups", &format!("root ::= {}", open("(", ")"))).unwrap_err().contains("groups"));
        let _ = grammar("marks", &format!("root ::= \"a\"{}", "?".repeat(n)));
        let _ = grammar("lark groups", &format!("start: {}", open("(", ")")));
        let _ = grammar("lark options", &format!("start: {}", open("[", "]")));
        let _ = grammar("lark not", &format!("start: A\nA: {}/a/", "~".repeat(n)));
        for (left, right) in [("(", ")"), ("(?:", ")*"), ("(?!", ")"), ("[", "]"), ("a|(", ")")] {
            let _ = grammar("regex", &format!("start: /{}a{}/", left.repeat(n), right.repeat(n)));
            let pattern = format!("^{}a{}$", left.repeat(n), right.repeat(n));
            let _ = schema("pattern", &json!({"type": "string", "pattern": pattern}));
            let _ = schema("patterns", &json!({"patternProperties": {pattern: {}}}));
        }
        let _ = grammar("braces", &format!("start: /a{}/", "{99}".repeat(n)));
        let _ = soon("arrays", |factory| {
            factory.json_schema(&format!("{{\"const\":{}{}}}", "[".repeat(n), "]".repeat(n))).map(drop)
        });
    }
    let _ = grammar("repetitions", "root ::= ((([a-z]{9999}){9999}){9999}){0,9999}");
    let _ = grammar("empty repetitions", "root ::= ((\"\"{9999})*){9999} ((\"a\"?)*)*");
    let _ = grammar("ambiguous", "root ::= root root root | \"\" | \"a\"");
    let _ = grammar("lark repetitions", "start: ((/[a-z]{999}/{999}){999}){0,999}");
    let endless = grammar("endless", "root ::= \"a\" root").unwrap_err();
    assert!(endless.contains("endless"), "{endless}");
    let many: String =
        (0..70_000).map(|i| format!("r{i} ::= \"a\" | [b] r{} r0\n", (i * 7 + 1) % 70_000)).collect();
    let _ = grammar("many rules", &format!("root ::= r0\n{many}"));
    let letters: String = ('\u{4E00}'..'\u{9FFF}').map(|c| format!("\"{c}\" | ")).collect();
    let _ = grammar("many letters", &format!("root ::= {letters} \"a\""));
    let _ = grammar(
        "lark, many literals",
        &format!("start: {} \"a\"", (0..30_000).map(|i| format!("\"{i:x}\" | ")).collect::<String>()),
    );
    let _ = grammar("lark, too large", &format!("start: \"{}\"", "a".repeat(500_000)));
}

/// Definitions that refer to each other in a row.
fn references(n: usize, link: impl Fn(Value) -> Value) -> Value {
    let name = |i: usize| format!("d{i}");
    let reference = |i: usize| json!({ "$ref": format!("#/$defs/d{i}") });
    let mut definitions: Map<String, Value> = (0..n).map(|i| (name(i), link(reference(i + 1)))).collect();
    definitions.insert(name(n), json!({"type": "integer"}));
    json!({"$ref": "#/$defs/d0", "$defs": definitions})
}

/// Case 31.
#[test]
fn chains_of_references_do_not_abort() {
    schema("plain", &references(5000, |next| next)).unwrap();
    schema("properties", &references(4000, |next| json!({"type": "object", "properties": {"a": next}})))
        .unwrap();
    schema("items", &references(5000, |next| json!({"type": "array", "items": next}))).unwrap();
    let _ = schema("long", &references(30_000, |next| json!({"type": "array", "items": next})));
    let _ = schema("anyOf", &references(5000, |next| json!({"anyOf": [next, {"type": "null"}]})));
    let _ = schema("oneOf", &references(5000, |next| json!({"oneOf": [next, {"type": "null"}]})));
    let _ = schema("allOf", &references(5000, |next| json!({"allOf": [next, {"title": "a"}]})));
    let _ = schema("merged", &references(5000, |next| json!({"allOf": [next, {"minimum": 1}]})));
    let _ = schema("beside", &references(5000, |next| json!({"$ref": next["$ref"], "minimum": 1})));
    let mut circle = references(5000, |next| next);
    circle["$defs"]["d5000"] = json!({"$ref": "#/$defs/d0"});
    assert!(schema("circle", &circle).unwrap_err().contains("nothing but itself"));
    for key in ["allOf", "anyOf", "oneOf"] {
        let _ = schema("itself", &json!({key: [{"$ref": "#"}, {"type": "integer"}]}));
        let _ = schema("itself, twice", &json!({"items": {key: [{"$ref": "#"}, {"$ref": "#/items"}]}}));
    }
    let tree =
        |name: &str| json!({"type": "object", "properties": {"child": {"$ref": format!("#/$defs/{name}")}}});
    let _ = schema(
        "trees",
        &json!({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {"a": tree("a"), "b": tree("b")}}),
    );
}

#[test]
fn large_schemas_take_little_time() {
    let words = |n: u64| {
        (0..n).map(|i| format!("{:x}", (i + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect::<Vec<_>>()
    };
    let large = words(20_000);
    assert!(json!(large).to_string().len() > 370_000);
    schema("enum", &json!({"enum": large})).unwrap();
    schema(
        "enum with a type",
        &json!({"type": "object", "properties": {"a": {"type": "string", "enum": large}}}),
    )
    .unwrap();
    for n in [1000, 5000, 20_000] {
        let all = words(n);
        let properties: Map<String, Value> =
            all.iter().map(|name| (name.clone(), json!({"type": "integer"}))).collect();
        let _ = schema("properties", &json!({"properties": properties}));
        let _ = schema("closed", &json!({"properties": properties, "additionalProperties": false}));
        let _ = schema("required", &json!({"properties": properties, "required": all}));
        let patterns: Map<String, Value> = all.iter().map(|name| (format!("^{name}"), json!({}))).collect();
        let _ = schema("patterns", &json!({ "patternProperties": patterns }));
        let strings: Vec<Value> =
            all.iter().map(|name| json!({"type": "string", "pattern": format!("^{name}[^\"]$")})).collect();
        let _ = schema("strings", &json!({ "anyOf": strings }));
        let tagged: Vec<Value> = all
            .iter()
            .map(|name| json!({"properties": {"t": {"const": name}}, "required": ["t"], "type": "object"}))
            .collect();
        let _ = schema("tagged", &json!({ "oneOf": tagged }));
        let _ = schema("merged", &json!({"allOf": [{"anyOf": tagged}, {"anyOf": tagged}]}));
        let bounds: Vec<Value> =
            (0..n).map(|i| json!({"type": "integer", "maximum": i64::MAX - i as i64})).collect();
        let _ = schema("bounds", &json!({ "anyOf": bounds }));
    }
    let _ = schema(
        "sizes",
        &json!({"type": "array", "items": {"type": "string", "minLength": 1_000_000}, "minItems": 1_000_000_000}),
    );
    let _ =
        schema("long pattern", &json!({"type": "string", "pattern": "^(a?){30000}b$", "minLength": 20_000}));
    let _ =
        schema("wide pattern", &json!({"type": "string", "pattern": "(a|b)*a(a|b){30}$", "maxLength": 40}));
}

/// Automata that would be large: many ranges of characters, many ends of alternatives, exponentially many sets of states.
#[test]
fn regular_rules_with_large_automata_are_compiled_soon() {
    let class = |i: usize| {
        let characters: Vec<String> =
            (0..400).map(|n| format!("\\u{:04X}", 0x1000 + (i * 7 + n * 47) % 20_000)).collect();
        format!("[{}]", characters.concat())
    };
    let classes: Vec<String> = (0..1500).map(class).collect();
    grammar("many ranges", &format!("root ::= ({})*", classes.join(" | "))).unwrap();
    let empty = format!("root ::= ({})*\ne ::= {}", "e ".repeat(3000), ["\"\""; 3000].join(" | "));
    let _ = grammar("many ends", &empty);
    // The character so many places before the end: twice as many sets of states with each place.
    let far = format!("root ::= [a-z]* \"b\" {}", "[a-z] ".repeat(24));
    grammar("many sets", &far).unwrap();
    let words: Vec<String> = (0..3000).map(|i| format!("\"w{i}\" root")).collect();
    grammar("many words", &format!("root ::= {} | \"\"", words.join(" | "))).unwrap();
}
