//! Thousands of small templates, compared with the results of Jinja2.
//!
//! `make_snippets.py` made `snippets.jsonl`: filters, tests, methods, operators, format strings, statements, white space,
//! literals, dates, with values of every type.

use std::collections::BTreeMap;
use std::fs;

use rfgraph::text::{ChatTemplate, RenderOptions};
use serde_json::{Map, Value};

use crate::templates::{fixtures, now};

/// Snippets that are an error here and has a result in Jinja2, with the reason.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("the method encode", "gives bytes, which no prompt has"),
    ("the method casefold", "of letters outside of ASCII needs a table of its own"),
    ("format of Markup", "escapes what each field gives; no template does it"),
    ("truncate of Markup", "as before"),
    ("a slice of", "a number or a dictionary is undefined only where Jinja2 computes it while it compiles"),
    ("sameas", "whether equal values are one object is Python's affair"),
    ("a range as a key", "is of no use"),
    ("a complex number", "is of no use"),
    ("to print an iterator", "shows an address, if it is not printed as a part of nothing"),
    ("to print a namespace", "shows an address or a class of Python"),
    ("the name ", "in other letters than ASCII's is not one for the engine"),
    ("a value named ", "is a word of the engine"),
    ("groups of digits", "filled with zeros have rules of their own"),
    ("a percent sign with a format", "is an error in some versions of Python"),
    (
        "the escape ",
        "with a character's name needs a table of names; before other letters, Jinja2 misreads it",
    ),
    ("the filter ", "random gives chance; the others are for web pages"),
    ("kwargs in a macro", "is not in the engine"),
    ("with a place", "of startswith and endswith is of no use"),
    ("such a conversion", "gives ASCII, which no prompt needs"),
    ("so large a number", "is beyond 64 bits"),
    ("a whole number of more than 128 bits", "is beyond the engine's"),
    ("round to such a precision", "of more than 15 digits or less than none is of no use"),
];

/// The share of snippets that may be unsupported.
const MAX_UNSUPPORTED: f64 = 0.015;

#[test]
fn snippets_render_as_in_jinja2() {
    let text = fs::read_to_string(fixtures().join("snippets.jsonl")).unwrap();
    let mut lines = text.lines();
    let variables: Map<String, Value> = serde_json::from_str(lines.next().unwrap()).unwrap();
    let options = RenderOptions { variables, now: Some(now()), ..RenderOptions::default() };
    let (mut count, mut results, mut differences) = (0, 0, Vec::new());
    let mut unsupported: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let (source, expected): (String, Option<String>) = serde_json::from_str(line).unwrap();
        let got = ChatTemplate::new(&source, "<s>", "</s>")
            .and_then(|template| template.render_with(&[], &options));
        count += 1;
        results += usize::from(expected.is_some());
        match (got, expected) {
            (Ok(got), Some(expected)) if got == expected => {}
            // Where Jinja2 fails, so must we.
            (Err(_), None) => {}
            (Err(error), Some(expected)) => {
                let message = error.to_string();
                let known = UNSUPPORTED.iter().find(|(what, _)| message.contains(what));
                match known.filter(|_| message.contains("not supported")) {
                    Some((what, _)) => *unsupported.entry(what).or_default() += 1,
                    None => differences.push(format!("{source:?}: {message}, not {expected:?}")),
                }
            }
            (Ok(got), expected) => differences.push(format!("{source:?}: {got:?}, not {expected:?}")),
        }
    }
    differences.truncate(50);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(count >= 5_000 && results >= 5_000, "{count} snippets, {results} with a result");
    let share = unsupported.values().sum::<usize>() as f64 / f64::from(results as u32);
    assert!(share < MAX_UNSUPPORTED, "{share}: {unsupported:?}");
}
