//! Constrained output: whatever allowed tokens are chosen, the text parses, validates, and is derived from the grammar.

mod cases;
mod generated;
mod hostile;
mod numbers;
mod recogniser;
mod schemas;

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use recogniser::is_sum;
use rfgraph::gguf::Gguf;
use rfgraph::sampling::{Rng, Sampler, SamplerParams, Stage};
use rfgraph::text::{
    Constraint, ConstraintError, ConstraintFactory, EncodeOptions, TokenKind, Tokenizer, VocabData,
};
use serde_json::Value;

fn demo_vocabulary() -> VocabData {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
    VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap()
}

fn demo_tokenizer() -> Tokenizer {
    Tokenizer::new(demo_vocabulary()).unwrap()
}

/// Chooses allowed tokens by random logits, and returns the text if the answer ended by itself. `ending` is added to
/// the logits of the tokens that end an answer.
fn random_answer(
    tokenizer: &Tokenizer,
    constraint: &mut Constraint,
    seed: u64,
    most: usize,
    ending: f32,
) -> Option<String> {
    let n_vocab = tokenizer.n_vocab();
    let order = vec![Stage::Temperature];
    let params = SamplerParams { order, seed, ..SamplerParams::default() };
    let mut sampler = Sampler::new(params, n_vocab).unwrap();
    let mut rng = Rng::new(seed);
    let mut tokens = Vec::new();
    let mut logits = vec![0.0f32; n_vocab];
    while tokens.len() < most {
        if constraint.is_complete() {
            return Some(tokenizer.decode(&tokens, true));
        }
        for (id, logit) in (0..).zip(&mut logits) {
            *logit =
                rng.next_unit() as f32 * 4.0 + if tokenizer.is_end_of_generation(id) { ending } else { 0.0 };
        }
        constraint.mask(&mut logits).unwrap();
        let token = sampler.sample(&logits).unwrap();
        if tokenizer.is_end_of_generation(token) {
            return Some(tokenizer.decode(&tokens, true));
        }
        constraint.accept(token).unwrap();
        tokens.push(token);
    }
    None
}

/// Fails unless a text is JSON that is valid under the schema.
fn assert_valid(schema: &Value, text: &str) {
    let value: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?} for {schema}"));
    let validator = jsonschema::validator_for(schema).unwrap();
    if let Err(error) = validator.validate(&value) {
        panic!("{error}: {text} for {schema}");
    }
}

#[test]
fn json_satisfies_its_schema() {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let (mut ended, mut all) = (0, 0);
    let mut runner = TestRunner::new(ProptestConfig::default());
    let counts = std::cell::RefCell::new((&mut ended, &mut all));
    let result = runner.run(&(schemas::schema(), any::<u64>()), |(schema, seed)| {
        let mut constraint = factory.json_schema(&schema.to_string()).unwrap();
        for run in 0..2 {
            constraint.restart();
            let answer = random_answer(&tokenizer, &mut constraint, seed ^ run, 400, 0.0);
            let mut counts = counts.borrow_mut();
            *counts.1 += 1;
            if let Some(text) = answer {
                *counts.0 += 1;
                assert_valid(&schema, &text);
            }
        }
        Ok(())
    });
    result.unwrap();
    assert!(ended * 2 > all, "{ended} of {all} answers ended: too few to mean anything");
}

const LARK: &str = r#"
start: sum
sum: product (("+" | "-") product)*
product: atom ("*" atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[0-9]{1,3}/
"#;

/// The grammar in GBNF. Some names differ only in spelling, and `"12"` begins like other numbers.
const GBNF: &str = r#"
# sums
root ::= sum
sum ::= product ([+-] product)*
product ::= atom-1 ("*" atom-1)*
atom-1 ::= atom_1 | "(" sum ")"
    | "12" # a number of its own
atom_1 ::= [0-9]{1,3}
"#;

#[test]
fn allowed_texts_are_derived_from_the_grammar() {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    for grammar in [LARK, GBNF] {
        let mut constraint = factory.grammar(grammar).unwrap();
        let mut ended = 0;
        for seed in 0..150 {
            constraint.restart();
            if let Some(text) = random_answer(&tokenizer, &mut constraint, seed, 100, 3.0) {
                assert!(is_sum(&text), "{text:?} is not a sum");
                ended += 1;
            }
        }
        assert!(ended > 75, "only {ended} ended");
    }
}

/// Some files give the token that ends an answer another kind; a grammar may derive its text.
#[test]
fn a_token_that_ends_an_answer_is_never_text() {
    for kind in [TokenKind::Control, TokenKind::Normal, TokenKind::UserDefined, TokenKind::Unused] {
        let mut vocabulary = demo_vocabulary();
        let eos = vocabulary.eos.unwrap();
        vocabulary.kinds.as_mut().unwrap()[eos as usize] = kind;
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        let text = tokenizer.token_text(eos).unwrap();
        let factory = ConstraintFactory::new(&tokenizer).unwrap();
        let mut constraint = factory.grammar(&format!("root ::= \"{text}\"?")).unwrap();
        let mut logits = vec![0.0f32; tokenizer.n_vocab()];
        constraint.mask(&mut logits).unwrap();
        assert_eq!(logits[eos as usize], 0.0, "{kind:?}: nothing is a text of this grammar, and may end");
        let mut constraint = factory.grammar(&format!("root ::= \"{text}\" \"x\"")).unwrap();
        logits.fill(0.0);
        constraint.mask(&mut logits).unwrap();
        assert_eq!(logits[eos as usize], f32::NEG_INFINITY, "{kind:?}");
        assert!(logits.contains(&0.0), "{kind:?}: its characters are allowed");
    }
}

/// A schema that is not an object has the same white space as others.
#[test]
fn any_json_has_little_white_space() {
    let tokenizer = demo_tokenizer();
    let mut constraint = ConstraintFactory::new(&tokenizer).unwrap().json_schema("true").unwrap();
    assert!(allows(&tokenizer, &mut constraint, "[1, 2]"));
    assert!(!allows(&tokenizer, &mut constraint, "[1,    2]"));
}

/// A text is allowed token by token, and then the end.
fn allows(tokenizer: &Tokenizer, constraint: &mut Constraint, text: &str) -> bool {
    constraint.restart();
    let mut logits = vec![0.0f32; tokenizer.n_vocab()];
    for token in tokenizer.encode(text, EncodeOptions::default()) {
        logits.fill(0.0);
        if constraint.is_complete() || constraint.mask(&mut logits).is_err() || logits[token as usize] != 0.0
        {
            return false;
        }
        constraint.accept(token).unwrap();
    }
    logits.fill(0.0);
    constraint.is_complete()
        || constraint.mask(&mut logits).is_ok()
            && (0..).zip(&logits).any(|(id, &logit)| logit == 0.0 && tokenizer.is_end_of_generation(id))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Texts of the grammar's characters: sums and others.
    #[test]
    fn a_grammar_allows_what_it_derives_and_nothing_else(texts in prop::collection::vec("[0-9+*()-]{1,9}|[0-9]{1,3}([+*][0-9]{1,2}){0,3}|\\([0-9]\\+12\\)", 20)) {
        let tokenizer = demo_tokenizer();
        let factory = ConstraintFactory::new(&tokenizer).unwrap();
        for grammar in [LARK, GBNF] {
            let mut constraint = factory.grammar(grammar).unwrap();
            for text in &texts {
                prop_assert_eq!(allows(&tokenizer, &mut constraint, text), is_sum(text), "{:?}", text);
            }
        }
    }
}

/// If a literal and a class begin alike, a lexer that prefers the longer one would lose texts.
#[test]
fn gbnf_terminals_are_characters() {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let check = |grammar: &str, yes: &[&str], no: &[&str]| {
        let mut constraint = factory.grammar(grammar).unwrap();
        for (texts, allowed) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(allows(&tokenizer, &mut constraint, text), allowed, "{text:?} by {grammar}");
            }
        }
    };
    check(
        "root ::= [a-z] \"f\" \"y\" | \"if\" \"x\" | \"ifs\"",
        &["ify", "ofy", "ifx", "ifs"],
        &["if", "ofx", "ofs", "ifyx"],
    );
    check("root ::= [^\\n\"]* \"\\n\"", &["a b/c\n", "\n", "é한\n"], &["a", "\"\n", "\n\n"]);
    check("root ::= \"a\"? (\"b\" |) [\\x41-C\\-]{2} .", &["abAB.", "A-é", "aCCx"], &["abA.", "aDDx"]);
    check("root ::= \"a\"{0} \"b\"{0,0} item{0,1}\nitem ::= \"c\"", &["", "c"], &["a", "b", "cc"]);
    check(
        "root ::= item+\nitem ::=\n  \"x\" |\n  \"(\" item{0,2} \")\"",
        &["x", "(x())", "xx"],
        &["", "(xxx)", "(x"],
    );
}

/// The tokens that a mask allows.
fn allowed(constraint: &mut Constraint, n_vocab: usize) -> Vec<u32> {
    let mut logits = vec![0.0f32; n_vocab];
    constraint.mask(&mut logits).unwrap();
    (0..).zip(&logits).filter(|&(_, &logit)| logit == 0.0).map(|(id, _)| id).collect()
}

/// A grammar names a token by its id, by its text, or as any other token, as in llama.cpp. A token that ends an answer is allowed
/// only by its own name.
#[test]
fn gbnf_names_tokens() {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let n_vocab = tokenizer.n_vocab();
    let id_of = |text: &str| (0..n_vocab as u32).find(|&id| tokenizer.token_text(id) == Some(text)).unwrap();
    let (start, letter) = (id_of("<|im_start|>"), id_of("q"));
    let grammar = format!("root ::= \"a\" <|im_start|> !<|im_start|>+ <[{start}]> (<[{letter}]> | \"b\")");
    let mut constraint = factory.grammar(&grammar).unwrap();
    let mut step = |token: u32, expected: &dyn Fn(u32) -> bool| {
        let before = allowed(&mut constraint, n_vocab);
        assert!(before.iter().all(|&id| expected(id)) && before.contains(&token), "{token}: {before:?}");
        constraint.accept(token).unwrap();
        constraint.rewind(1).unwrap();
        assert_eq!(allowed(&mut constraint, n_vocab), before);
        constraint.accept(token).unwrap();
        before.len()
    };
    let goes_on = |id: u32| !tokenizer.is_end_of_generation(id);
    let others = (0..n_vocab as u32).filter(|&id| id != start && goes_on(id)).count();
    assert_eq!(step(id_of("a"), &|id| id == id_of("a")), 1);
    assert_eq!(step(start, &|id| id == start), 1);
    assert_eq!(step(letter, &|id| id != start && goes_on(id)), others);
    assert_eq!(step(id_of("b"), &goes_on), others + 1);
    assert_eq!(step(start, &goes_on), others + 1);
    assert_eq!(step(letter, &|id| id == letter || id == id_of("b")), 2);
    assert!(constraint.is_complete());
}

/// The limit that `docs/generating.md` names: such an answer cannot end.
#[test]
fn a_token_that_matches_a_name_never_matches_a_text() {
    let tokenizer = demo_tokenizer();
    let mut constraint =
        ConstraintFactory::new(&tokenizer).unwrap().grammar("root ::= !<|im_start|>* \"x\"").unwrap();
    let n_vocab = tokenizer.n_vocab();
    let x = (0..n_vocab as u32).find(|&id| tokenizer.token_text(id) == Some("x")).unwrap();
    for _ in 0..3 {
        let allowed = allowed(&mut constraint, n_vocab);
        assert!(allowed.contains(&x) && !allowed.iter().any(|&id| tokenizer.is_end_of_generation(id)));
        constraint.accept(x).unwrap();
    }
}

#[test]
fn errors_name_their_place() {
    let factory = ConstraintFactory::new(&demo_tokenizer()).unwrap();
    let grammar = |text: &str| factory.grammar(text).unwrap_err().to_string();
    let gbnf = [
        ("root ::= \"a\" nothing", "line 1: there is no rule `nothing`"),
        ("a ::= \"a\"", "line 1: there is no rule `root`, where a text begins"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2: the rule `root` is defined twice"),
        ("root ::= \"a", "line 1: a literal is not closed"),
        ("root ::= (\"a\"\n\n", "line 3: a `(` is not closed"),
        ("root ::= \"\\q\"", "line 1: there is no escape `\\q`"),
        ("root ::= [b-a]", "line 1: the range `b-a` is empty"),
        ("root ::= \"a\"{3,2}", "line 1: {3,2} is never"),
        (
            "root ::= <nothing>",
            "line 1: the vocabulary has no token `<nothing>`; write its text as a literal, in quotes",
        ),
        ("root ::= <[99999]>", "line 1: the vocabulary has no token `<[99999]>`; its ids are 0 to 1791"),
        ("root ::= \"a\"\n !<s", "line 2: a `<` is not closed"),
        ("root ::= ! \"a\"", "line 1: expected `<` and a token after `!`"),
        ("root ::= a\na ::= \"x\" )", "line 2: expected the name of a rule, found `)`"),
    ];
    for (text, expected) in gbnf {
        assert_eq!(grammar(text), format!("the grammar (GBNF) is malformed: {expected}"));
    }
    let deep = format!("root ::= {}\"a\"", "(".repeat(200_000));
    assert!(grammar(&deep).contains("more than 100 groups"));
    // Errors of the Lark parser have the line and the reason.
    let error = grammar("start: \"a\"\nb: (");
    assert!(error.starts_with("the grammar cannot be used: ") && error.contains('2'), "{error}");
    assert!(grammar("start: nothing").contains("nothing"));

    let schema = |text: &str| factory.json_schema(text).unwrap_err();
    assert!(
        matches!(schema("{\"type\": \"object\""), ConstraintError::Json(e) if e.contains("line 1 column 17"))
    );
    assert!(matches!(schema("{\"type\": \"colour\"}"), ConstraintError::Schema(e) if e.contains("colour")));
    // An unsupported keyword is an error.
    assert!(
        matches!(schema("{\"not\": {\"type\": \"string\"}}"), ConstraintError::Schema(e) if e.contains("not"))
    );
}
