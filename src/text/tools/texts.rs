//! Values outside of JSON: what texts a schema allows, as the bodies of terminals.

use serde_json::{Map, Value};

use super::form::STRING;
use super::kinds::{kinds, resolved};
use crate::text::constraint::{Refusal, pattern_terminal};

/// Any text.
pub(super) const ANY: &str = "/(?s:.*)/";

/// No text.
const NONE: &str = "/[^\\s\\S]/";

/// The spelling of texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    Raw,
    /// In Python, between these marks.
    Quoted(char),
}

/// Texts, as the body of a terminal.
pub(super) struct Texts {
    pub(super) body: String,
    pub(super) may_be_empty: bool,
}

impl Texts {
    pub(super) fn any() -> Texts {
        Texts { body: ANY.into(), may_be_empty: true }
    }
}

/// A text as a literal of the grammar.
pub(super) fn literal(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A text as a part of a regular expression.
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_alphanumeric() && c.is_ascii() || !c.is_ascii() => c.to_string(),
            c => format!("\\x{{{:x}}}", c as u32),
        })
        .collect()
}

/// Texts in which another text does not occur.
pub(super) fn without(text: &str) -> String {
    format!("~/(?s:.*){}(?s:.*)/", escaped(text))
}

fn refusal(path: &str, key: &str, reason: impl Into<String>) -> Refusal {
    Refusal { path: format!("{path}/{key}"), reason: reason.into() }
}

/// Deepest nesting of choices.
const DEEPEST: usize = 16;

/// Most choices of a text.
const MOST: usize = 2000;

/// The texts that the part of a schema at a path allows. `forbidden` must not occur in one that the schema lists.
pub(super) fn texts(
    root: &Value,
    path: &str,
    writing: Writing,
    forbidden: &[&str],
) -> Result<Texts, Refusal> {
    within(root, path, writing, forbidden, (0, &mut 0))
}

fn within(
    root: &Value,
    path: &str,
    writing: Writing,
    forbidden: &[&str],
    (depth, seen): (usize, &mut usize),
) -> Result<Texts, Refusal> {
    let (path, schema) = resolved(root, path.to_owned());
    let Value::Object(map) = schema else { return Ok(Texts { body: any(writing), may_be_empty: true }) };
    *seen += 1;
    if depth > DEEPEST || *seen > MOST {
        return Err(Refusal {
            path,
            reason: "choices are too many or too deep for this model's calls".into(),
        });
    }
    if map.contains_key("$ref") {
        return Err(refusal(&path, "$ref", "is not supported beside other keywords in this model's calls"));
    }
    let mut all = Vec::new();
    let mut may_be_empty = true;
    for key in ["anyOf", "oneOf", "allOf"] {
        let Some(Value::Array(parts)) = map.get(key) else { continue };
        let parts = parts.iter().enumerate().filter(|(_, part)| kinds(root, part) & STRING != 0);
        let parts: Vec<Texts> = parts
            .map(|(at, _)| {
                within(root, &format!("{path}/{key}/{at}"), writing, forbidden, (depth + 1, &mut *seen))
            })
            .collect::<Result<_, _>>()?;
        may_be_empty &= match key {
            "allOf" => parts.iter().all(|part| part.may_be_empty),
            _ => parts.iter().any(|part| part.may_be_empty),
        };
        let bodies: Vec<String> = parts.into_iter().map(|part| part.body).collect();
        all.push(match bodies.is_empty() {
            true => NONE.to_owned(),
            false => format!("({})", bodies.join(if key == "allOf" { " & " } else { " | " })),
        });
    }
    if let Some(values) = listed(map) {
        may_be_empty &= values.iter().any(|value| *value == "");
        all.push(choices(values, &path, writing, forbidden)?);
    }
    if let Some(pattern) = map.get("pattern") {
        let pattern = pattern.as_str().ok_or_else(|| refusal(&path, "pattern", "must be a string"))?;
        let terminal = pattern_terminal(pattern);
        let (terminal, allows_empty) =
            terminal.map_err(|reason| refusal(&path, "pattern", format!("`{pattern}` {reason}")))?;
        may_be_empty &= allows_empty;
        all.push(match writing {
            Writing::Raw => terminal,
            // Without what would be escaped: a part of what the pattern allows.
            Writing::Quoted(mark) => format!("({terminal} & /[^{}\\\\\\n\\r]*/)", escaped(&mark.to_string())),
        });
    }
    let limit = |key: &str| map.get(key).and_then(Value::as_u64);
    if map.contains_key("minLength") || map.contains_key("maxLength") {
        let (least, most) = (limit("minLength").unwrap_or(0), limit("maxLength"));
        may_be_empty &= least == 0;
        let most = most.map_or(String::new(), |most| most.to_string());
        all.push(format!("/({}){{{least},{most}}}/", unit(writing)));
    }
    let body = if all.is_empty() { any(writing) } else { format!("({})", all.join(" & ")) };
    Ok(Texts { body, may_be_empty })
}

/// A character.
fn unit(writing: Writing) -> String {
    match writing {
        Writing::Raw => "(?s:.)".into(),
        Writing::Quoted(mark) => format!("[^{}\\\\\\n\\r]|\\\\[nrt{0}\\\\]", escaped(&mark.to_string())),
    }
}

fn any(writing: Writing) -> String {
    match writing {
        Writing::Raw => ANY.into(),
        quoted @ Writing::Quoted(_) => format!("/({})*/", unit(quoted)),
    }
}

/// The values that a schema lists.
fn listed(map: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (map.get("const"), map.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (_, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn choices(values: Vec<&Value>, path: &str, writing: Writing, forbidden: &[&str]) -> Result<String, Refusal> {
    let texts = values.into_iter().filter_map(Value::as_str);
    let texts = texts.map(|text| {
        if let Some(marker) = forbidden.iter().find(|marker| !marker.is_empty() && text.contains(**marker)) {
            let reason =
                format!("the value `{text}` has `{marker}`, which closes an argument of this model's calls");
            return Err(refusal(path, "enum", reason));
        }
        Ok(match writing {
            Writing::Raw => literal(text),
            Writing::Quoted(mark) => literal(&quoted(text, mark)),
        })
    });
    Ok(format!("({})", texts.collect::<Result<Vec<_>, _>>()?.join(" | ")))
}

/// A text between Python's marks, without them.
fn quoted(text: &str, mark: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark || c == '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
