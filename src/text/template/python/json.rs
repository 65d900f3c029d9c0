//! The filter `tojson`: Python's `json.dumps`, as transformers gives it to templates.

use std::fmt::Write;

use minijinja::{State, Value};

use super::super::bounds::made;
use super::arguments::{Arguments, flag, required};
use super::operators::order;
use super::print::number_text;
use super::value::{Kind, View, items_of, type_name, view};
use super::{Result, fail};

/// The arguments of `json.dumps`.
struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// Largest indentation.
const MAX_INDENT: i128 = 64;

/// Unlike Jinja2's own it does not escape `<`, `>`, `&` and `'`, and its first argument is `ensure_ascii`.
pub(super) fn to_json(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, ascii, indent, separators, sort_keys] =
        arguments.bind(["x", "ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent.as_ref().map(view) {
        None | Some(View::None) => None,
        Some(View::Text(text)) => Some(text.to_owned()),
        Some(View::Bool(count)) => Some(" ".repeat(usize::from(count))),
        Some(View::Int(count)) if count <= MAX_INDENT => {
            Some(" ".repeat(usize::try_from(count).unwrap_or(0)))
        }
        Some(_) => return Err(fail("tojson needs an indent of at most 64")),
    };
    let separators = match separators.filter(|separators| !separators.is_none()) {
        Some(given) => items_of(&given)?,
        None => vec![Value::from(if indent.is_some() { "," } else { ", " }), Value::from(": ")],
    };
    let [item, key] = separators.as_slice() else { return Err(fail("tojson needs two separators")) };
    let (Some(item), Some(key)) = (item.as_str(), key.as_str()) else {
        return Err(fail("the separators of tojson are texts"));
    };
    let style = Style {
        ensure_ascii: flag(&ascii),
        sort_keys: flag(&sort_keys),
        indent,
        item_separator: item.to_owned(),
        key_separator: key.to_owned(),
    };
    let mut out = String::new();
    write_json(&required(value)?, &style, 0, &mut out)?;
    super::value::text(out, false)
}

fn write_json(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<()> {
    let start = out.len();
    match view(value) {
        View::Text(text) => write_text(text, style, out),
        View::Sequence(items) if matches!(items.kind, Kind::List | Kind::Tuple | Kind::Group) => {
            return write_items(&items.items, ('[', ']'), style, depth, out, |item, out| {
                write_json(item, style, depth + 1, out)
            });
        }
        View::Dictionary(dictionary) => {
            let mut entries: Vec<&(Value, Value)> = dictionary.entries.iter().collect();
            if style.sort_keys {
                super::sequences::sort_by(&mut entries, |one, other| order(&one.0, &other.0))?;
            }
            return write_items(&entries, ('{', '}'), style, depth, out, |(key, value), out| {
                match view(key) {
                    View::Text(text) => write_text(text, style, out),
                    _ => write_text(&scalar(key)?, style, out),
                }
                out.push_str(&style.key_separator);
                write_json(value, style, depth + 1, out)
            });
        }
        _ => out.push_str(&scalar(value)?),
    }
    made(out.len() - start)
}

/// A value that is not text and holds no text.
fn scalar(value: &Value) -> Result<String> {
    Ok(match view(value) {
        View::None => "null".to_owned(),
        View::Bool(value) => value.to_string(),
        View::Int(value) => value.to_string(),
        View::Float(value) if value.is_nan() => "NaN".to_owned(),
        View::Float(value) if value.is_infinite() => {
            format!("{}Infinity", if value < 0.0 { "-" } else { "" })
        }
        View::Float(value) => number_text(value),
        _ => return Err(fail(format!("{} has no JSON form", type_name(value)))),
    })
}

/// Writes items in brackets, each by `each`; one per line if an indent is set.
fn write_items<T>(
    items: &[T],
    (open, close): (char, char),
    style: &Style,
    depth: usize,
    out: &mut String,
    each: impl Fn(&T, &mut String) -> Result<()>,
) -> Result<()> {
    let line = |depth: usize, out: &mut String| -> Result<()> {
        if let Some(indent) = &style.indent {
            made(indent.len() * depth)?;
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
        Ok(())
    };
    made(2)?;
    out.push(open);
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            made(style.item_separator.len())?;
            out.push_str(&style.item_separator);
        }
        line(depth + 1, out)?;
        each(item, out)?;
    }
    if !items.is_empty() {
        line(depth, out)?;
    }
    out.push(close);
    Ok(())
}

fn write_text(text: &str, style: &Style, out: &mut String) {
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

/// A character as JSON's `\u` with four digits, a surrogate pair beyond U+FFFF.
fn push_utf16_escapes(character: char, out: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}
