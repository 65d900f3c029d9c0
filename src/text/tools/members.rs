//! Finds the form of arguments that are written one after the other: in tags, in Python, or in a notation of their own.

use serde_json::{Value, json};

use super::form::{Arguments, Around, Form, Members, Notation, Pattern, Piece, before_marker, shared_start};
use super::rendering::{Head, KEYS, NAMES, Probe, TEXTS};

/// Spellings of the values of each kind but texts.
const SPELLINGS: [&[&str]; 6] = [
    &["null", "None"],
    &["true", "True"],
    &["4711"],
    &[],
    &["[\"qa\", 8]", "[\"qa\",8]", "['qa', 8]"],
    &["{\"qa\": 8}", "{\"qa\":8}", "{'qa': 8}"],
];

/// The form, if arguments are written so.
pub(super) fn form(probe: &Probe<'_>) -> Option<Form> {
    if probe.as_text {
        return None;
    }
    let [key, second] = KEYS;
    let of = |value: Value| json!({ key: value });
    // With a number, which nothing closes.
    let number = probe.answer(&[&of(json!(4711))], "4711")?;
    let (_, after_name) = after_last(&number, NAMES[0], key)?;
    let (plain, end) = after_name.split_once(key)?.1.split_once("4711")?;
    let end = end.to_owned();
    // With a text, and with two.
    let one = probe.answer(&[&of(json!(TEXTS[0]))], TEXTS[0])?;
    let (head, after_name) = after_last(&one, NAMES[0], key)?;
    let (first, after_key) = after_name.split_once(key)?;
    let (before, after_text) = after_key.split_once(TEXTS[0])?;
    let after = after_text.strip_suffix(&end)?;
    let two = probe.answer(&[&json!({key: TEXTS[0], second: TEXTS[1]})], TEXTS[1])?;
    let (_, between) = two.split_once(TEXTS[0])?;
    let (between, _) = between.strip_prefix(after)?.split_once(second)?;
    let shared = shared_start(between, &end);
    let close = before_marker(between, shared).min(before_marker(&end, shared));
    let (close, next, tail) = (&between[..close], &between[close..], &end[close..]);
    let mut around: [Option<Around>; 6] = std::array::from_fn(|kind| {
        let value = [json!(null), json!(true), json!(4711), json!(""), json!(["qa", 8]), json!({"qa": 8})]
            [kind]
            .clone();
        let written = probe.answer(&[&of(value)], NAMES[0])?;
        let (_, after_name) = after_last(&written, NAMES[0], key)?;
        let inner = after_name.split_once(key)?.1.strip_suffix(&end)?;
        let spelled = SPELLINGS[kind].iter().find_map(|spelling| inner.rsplit_once(spelling));
        let around = |before: &str, after: &str, notation| Around {
            before: before.into(),
            after: after.into(),
            notation,
        };
        spelled.map(|(before, after)| around(before, after, Notation::Json)).or_else(|| {
            let mark = before.strip_prefix(plain)?;
            let notation = nested(kind, inner.strip_prefix(plain)?, mark)?;
            Some(around(plain, "", notation))
        })
    });
    let quote = before.chars().next_back().filter(|c| "'\"".contains(*c) && after.starts_with(*c));
    let notation = quote.map_or(Notation::Raw, Notation::Quoted);
    // Nothing would say where a text ends.
    if notation == Notation::Raw && after.trim().is_empty() && close.trim().is_empty() {
        return None;
    }
    around[3] = Some(Around { before: before.to_owned(), after: after.to_owned(), notation });
    let none = |n: usize| {
        let without = probe.answer(&[&json!({}), &json!({})][..=n], NAMES[n])?;
        let none = &without[without.rfind(NAMES[n])? + NAMES[n].len()..];
        none.strip_suffix(tail).map(Pattern::text)
    };
    let keyed = |text: &str, key: &str| {
        Pattern::of(&format!("{text}{key}"), &[(key, Piece::Key), (KEYS[0], Piece::LastKey)])
    };
    let members = Members {
        none: indexed(none(0)?, none(1)),
        first: indexed(keyed(first, key), second_first(probe)),
        next: keyed(next, second),
        close: Pattern::of(close, &[(key, Piece::LastKey)]),
        around,
    };
    let next = several(probe, after, close);
    Some(Form {
        first: Head::of(&format!("{head}{}", NAMES[0]), 0)?.name,
        lead: 0,
        open: String::new(),
        next,
        arguments: Arguments::Members(Box::new(members)),
        tail: Pattern::text(tail),
        close: None,
        text_lead: String::new(),
        text_tail: String::new(),
        thoughts: None,
    })
}

/// The notation of a list or an object, as it is written. `mark` surrounds texts.
fn nested(kind: usize, written: &str, mark: &str) -> Option<Notation> {
    let is_braces =
        [(4, format!("[{mark}qa{mark},8]")), (5, "{qa:8}".to_owned())].contains(&(kind, written.to_owned()));
    if is_braces && !mark.is_empty() {
        return Some(Notation::Braces(mark.to_owned()));
    }
    let tag = if kind == 4 { "<item>" } else { "<qa>" };
    let (mark, _) = written.split_once(tag).filter(|(mark, _)| !mark.is_empty())?;
    let items = format!("{mark}<item>qa{mark}</item>{mark}<item>8{mark}</item>");
    let object = format!("{mark}<qa>8{mark}</qa>");
    (written == if kind == 4 { items } else { object }).then(|| Notation::Items(mark.to_owned()))
}

/// The pattern with the number of its call, if that is what another call's differs by.
fn indexed(one: Pattern, other: Option<Pattern>) -> Pattern {
    other.and_then(|other| one.clone().with_index(&other)).unwrap_or(one)
}

/// The text between the name and the first key of a second call.
fn second_first(probe: &Probe<'_>) -> Option<Pattern> {
    let key = KEYS[1];
    let written = probe.answer(&[&json!({}), &json!({ key: TEXTS[1] })], TEXTS[1])?;
    let (_, after_name) = after_last(&written, NAMES[1], key)?;
    let (first, _) = after_name.split_once(key)?;
    Some(Pattern::of(&format!("{first}{key}"), &[(key, Piece::Key)]))
}

/// The text between two calls: after the last argument of the one, up to the name of the other.
fn several(probe: &Probe<'_>, after: &str, close: &str) -> Option<Pattern> {
    let all = [&json!({KEYS[0]: "qa1"}), &json!({KEYS[0]: "qa2"}), &json!({KEYS[0]: "qa3"})];
    let written = probe.answer(&all, "qa3")?;
    let head = |n: usize| {
        let start = written.find(["qa1", "qa2"][n - 1])? + 3;
        let end = written.find(["qa2", "qa3"][n - 1])?;
        let text = written.get(start..end)?.strip_prefix(after)?.strip_prefix(close)?;
        Some(Head::of(text, n)?.name)
    };
    head(1)?.with_index(&head(2)?)
}

/// The texts before and after the last name that stands before the first key.
fn after_last<'t>(text: &'t str, name: &str, key: &str) -> Option<(&'t str, &'t str)> {
    let at = text[..text.find(key)?].rfind(name)?;
    Some((&text[..at], &text[at + name.len()..]))
}
