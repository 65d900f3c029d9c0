//! Values as text: `str` and `repr`.

use minijinja::{Error, Output, State, Value};

use super::super::bounds::{made, running, written};
use super::unicode::is_printable;
use super::value::{Kind, View, view};
use super::{Result, unsupported};

/// `{{ value }}`: `str(value)`, and nothing for an undefined value.
pub(in super::super) fn write_value(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), Error> {
    let printed = match value.as_str() {
        Some(text) => {
            written(text.len())?;
            out.write_str(text)
        }
        None => {
            let text = running(|| str_of(value))?;
            written(text.len())?;
            out.write_str(&text)
        }
    };
    printed.map_err(|_| Error::from(minijinja::ErrorKind::WriteFailure))
}

/// `str(value)`.
pub(super) fn str_of(value: &Value) -> Result<String> {
    let mut text = String::new();
    match view(value) {
        View::Text(string) => {
            made(string.len())?;
            text.push_str(string);
        }
        View::Undefined => {}
        _ => repr(value, &mut text)?,
    }
    Ok(text)
}

/// Writes `repr(value)`. Equal parts of a value are written as often as they occur, so each is accounted for. Values
/// are not nested deeper than their constructors allow.
pub(super) fn repr(value: &Value, out: &mut String) -> Result<()> {
    let start = out.len();
    match view(value) {
        View::None => out.push_str("None"),
        View::Bool(value) => out.push_str(if value { "True" } else { "False" }),
        View::Int(value) => out.push_str(&value.to_string()),
        View::Float(value) => out.push_str(&number_text(value)),
        View::Text(text) => {
            if value.is_safe() {
                out.push_str("Markup(");
            }
            repr_text(text, out);
            out.push_str(if value.is_safe() { ")" } else { "" });
        }
        View::Undefined => out.push_str("Undefined"),
        View::Sequence(sequence) => {
            let (open, close) = match sequence.kind {
                Kind::List => ("[", "]"),
                Kind::Tuple | Kind::Group => ("(", if sequence.items.len() == 1 { ",)" } else { ")" }),
                Kind::Keys => ("dict_keys([", "])"),
                Kind::Values => ("dict_values([", "])"),
                Kind::Items => ("dict_items([", "])"),
                Kind::Range => {
                    let [start, stop, step] = sequence.range;
                    let step = if step == 1 { String::new() } else { format!(", {step}") };
                    out.push_str(&format!("range({start}, {stop}{step})"));
                    return made(16);
                }
            };
            out.push_str(open);
            for (n, item) in sequence.items.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                repr(item, out)?;
            }
            out.push_str(close);
            return made(4);
        }
        View::Dictionary(dictionary) => {
            out.push('{');
            for (n, (key, value)) in dictionary.entries.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                repr(key, out)?;
                out.push_str(": ");
                repr(value, out)?;
            }
            out.push('}');
            return made(4);
        }
        // Their texts have addresses in Python, or none is the same as the engine's.
        View::Iterator(_) => return Err(unsupported("to print an iterator")),
        View::Other => return Err(unsupported("to print a namespace, a loop or a function")),
    }
    made(out.len() - start)
}

/// A string in Python's quotes: single ones, unless it contains only single ones.
fn repr_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if character == quote => out.extend(['\\', quote]),
            ' '..='~' => out.push(character),
            _ if is_printable(character) => out.push(character),
            _ => out.push_str(&match character as u32 {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code @ 0..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
}

/// `repr` of a float: the shortest digits that give it back, with an exponent where Python writes one.
pub(super) fn number_text(value: f64) -> String {
    if !value.is_finite() {
        return match (value.is_nan(), value > 0.0) {
            (true, _) => "nan".to_owned(),
            (_, true) => "inf".to_owned(),
            (_, false) => "-inf".to_owned(),
        };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
