//! Prints values as Python does, which templates rely on.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// A JSON value as a template value.
pub(super) fn of_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => number.as_f64().map_or(Value::from(()), Value::from),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(of_json).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), of_json(value))))
        }
    }
}

/// `{{ value }}`: `str(value)`, and nothing for an undefined value.
pub(super) fn print_value(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&python_str(value)?),
    }
    .map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// The filter `indent`: indents every line but the first (also the first with `first`), empty ones only with `blank`.
/// Unlike the engine's own filter it keeps a trailing newline.
pub(super) fn indent(text: &str, width: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let width = match width {
        Some(width) => Some(width),
        None => options.get("width")?,
    };
    let by = match &width {
        None => " ".repeat(4),
        Some(width) => match (width.as_str(), width.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(count)) => " ".repeat(count.min(MAX_INDENT)),
            (None, None) => {
                return Err(Error::new(ErrorKind::InvalidOperation, "indent needs a number or a text"));
            }
        },
    };
    let first = options.get::<Option<bool>>("first")?.unwrap_or(false);
    let blank = options.get::<Option<bool>>("blank")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut out = String::new();
    for (n, line) in text.split('\n').enumerate() {
        out.push_str(if n > 0 { "\n" } else { "" });
        if (n == 0 && first) || (n > 0 && (blank || !line.is_empty())) {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// The filter `string`.
pub(super) fn string_of(value: &Value) -> Result<String, Error> {
    python_str(value)
}

/// The test `iterable`. Strings count: the engine cannot loop over them, but Python can, and templates use the test
/// before they take a length.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// The test `sequence`: values with a length and items, which in Python include strings and dictionaries.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// `str(value)`.
fn python_str(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match (value.as_str(), value.kind()) {
        (Some(string), _) => text.push_str(string),
        (None, ValueKind::Undefined) => {}
        _ => repr(value, 0, &mut text)?,
    }
    Ok(text)
}

/// Largest indentation.
const MAX_INDENT: usize = 64;

/// Deepest nesting of values: each level is a recursive call.
const MAX_DEPTH: usize = 100;

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value is nested more than {MAX_DEPTH} deep"))
}

/// `repr(value)`.
fn repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => repr_string(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                repr(&item, depth + 1, out)?;
                count += 1;
            }
            out.push_str(if value.is_tuple() && count == 1 { "," } else { "" });
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (n, key) in value.try_iter()?.enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                repr(&key, depth + 1, out)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// A string in Python's quotes: single ones, unless it contains only single ones.
fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if character == quote => out.extend(['\\', quote]),
            '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' => {
                out.push_str(&format!("\\x{:02x}", character as u32));
            }
            _ => out.push(character),
        }
    }
    out.push(quote);
}

/// Style of `tojson`: the arguments of Python's `json.dumps`.
struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
}

/// The filter `tojson`: `json.dumps(value, ensure_ascii=False)`, with its optional arguments. Unlike Jinja's own it
/// does not escape `<`, `>`, `&` and `'`, since a prompt is not a web page.
pub(super) fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = separators
        .unwrap_or_else(|| vec![if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()]);
    let [item_separator, key_separator] = <[String; 2]>::try_from(separators).map_err(|given| {
        let reason = format!("tojson needs two separators, got {}", given.len());
        Error::new(ErrorKind::InvalidOperation, reason)
    })?;
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent: indent.map(|indent| indent.min(MAX_INDENT)),
        item_separator,
        key_separator,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    json(value, &style, 0, &mut out)?;
    Ok(out)
}

fn json(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => json_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            json_items(keys, ('{', '}'), style, depth, out, |key, out| {
                // Python converts non-string keys to their JSON text.
                match key.as_str() {
                    Some(text) => json_string(text, style, out),
                    None => {
                        let mut text = String::new();
                        json(key, style, depth + 1, &mut text)?;
                        json_string(&text, style, out);
                    }
                }
                out.push_str(&style.key_separator);
                json(&value.get_item(key)?, style, depth + 1, out)
            })?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.collect();
            json_items(items, ('[', ']'), style, depth, out, |item, out| json(item, style, depth + 1, out))?;
        }
        kind => {
            let reason = format!("a value of type {kind} has no JSON form");
            return Err(Error::new(ErrorKind::BadSerialization, reason));
        }
    }
    Ok(())
}

/// Writes items in brackets, each by `each`; one per line if an indent is set.
fn json_items(
    items: Vec<Value>,
    (open, close): (char, char),
    style: &Style,
    depth: usize,
    out: &mut String,
    each: impl Fn(&Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push(open);
    for (n, item) in items.iter().enumerate() {
        out.push_str(if n > 0 { &style.item_separator } else { "" });
        line(depth + 1, out);
        each(item, out)?;
    }
    if !items.is_empty() {
        line(depth, out);
    }
    out.push(close);
    Ok(())
}

fn json_string(text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\x1f' => push_utf16_escapes(character, out),
            _ if style.ensure_ascii && !(' '..='~').contains(&character) => {
                push_utf16_escapes(character, out);
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// A character as JSON's `\uXXXX`, a surrogate pair beyond U+FFFF.
fn push_utf16_escapes(character: char, out: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}
