//! Calls of tools as a list of Python calls: `[get_weather(city='Oslo', n=3)]` (LFM2).

use serde_json::{Map, Value};

use super::ToolCall;
use super::calls::is_name;

/// Deepest nesting of lists and dictionaries in a call.
const DEEPEST: usize = 64;

/// The calls of a list; `None` if it is none.
pub(super) fn read_python(body: &str) -> Option<Vec<ToolCall>> {
    let mut rest = body.trim().strip_prefix('[')?.trim_start();
    let mut calls = Vec::new();
    loop {
        let (name, after) = rest.split_once('(').filter(|(name, _)| is_name(name))?;
        let (arguments, left) = arguments(after)?;
        calls.push(ToolCall { id: None, name: name.to_owned(), arguments: Value::Object(arguments) });
        match left.trim_start().split_at_checked(1)? {
            (",", more) => rest = more.trim_start(),
            ("]", "") => return Some(calls),
            _ => return None,
        }
    }
}

/// Llama 3's calls of built-in tools: `brave_search.call(query="…")`.
pub(super) fn read_python_call(body: &str) -> Option<Vec<ToolCall>> {
    let (name, after) = body.trim().split_once(".call(").filter(|(name, _)| is_name(name))?;
    let (arguments, left) = arguments(after)?;
    let call = ToolCall { id: None, name: name.to_owned(), arguments: Value::Object(arguments) };
    left.trim().is_empty().then(|| vec![call])
}

/// Named arguments up to the closing parenthesis, and the text after it.
fn arguments(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut arguments = Map::new();
    let mut rest = text.trim_start();
    if let Some(left) = rest.strip_prefix(')') {
        return Some((arguments, left));
    }
    loop {
        let (key, after) = rest.split_once('=').filter(|(key, _)| is_name(key.trim()))?;
        let (value, left) = literal(after.trim_start())?;
        arguments.insert(key.trim().to_owned(), value);
        match left.trim_start().split_at_checked(1)? {
            (",", more) => rest = more.trim_start(),
            (")", left) => return Some((arguments, left)),
            _ => return None,
        }
    }
}

/// A Python literal, or a JSON value, and the text after it.
pub(in crate::text) fn literal(text: &str) -> Option<(Value, &str)> {
    literal_within(text, 0)
}

fn literal_within(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > DEEPEST {
        return None;
    }
    match text.chars().next()? {
        quote @ ('\'' | '"') => string(&text[1..], quote),
        '[' => list(text[1..].trim_start(), depth),
        '{' => dictionary(text[1..].trim_start(), depth),
        _ => {
            let end = text.find(|c: char| !c.is_alphanumeric() && !"+-.".contains(c)).unwrap_or(text.len());
            let value = match &text[..end] {
                "True" | "true" => Value::Bool(true),
                "False" | "false" => Value::Bool(false),
                "None" | "null" => Value::Null,
                number => serde_json::from_str(number).ok().filter(Value::is_number)?,
            };
            Some((value, &text[end..]))
        }
    }
}

fn list(mut rest: &str, depth: usize) -> Option<(Value, &str)> {
    let mut list = Vec::new();
    if let Some(left) = rest.strip_prefix(']') {
        return Some((Value::Array(list), left));
    }
    loop {
        let (value, left) = literal_within(rest, depth + 1)?;
        list.push(value);
        match left.trim_start().split_at_checked(1)? {
            (",", more) => rest = more.trim_start(),
            ("]", left) => return Some((Value::Array(list), left)),
            _ => return None,
        }
    }
}

fn dictionary(mut rest: &str, depth: usize) -> Option<(Value, &str)> {
    let mut object = Map::new();
    if let Some(left) = rest.strip_prefix('}') {
        return Some((Value::Object(object), left));
    }
    loop {
        let (Value::String(key), left) = literal_within(rest, depth + 1)? else { return None };
        let (value, left) = literal_within(left.trim_start().strip_prefix(':')?.trim_start(), depth + 1)?;
        object.insert(key, value);
        match left.trim_start().split_at_checked(1)? {
            (",", more) => rest = more.trim_start(),
            ("}", left) => return Some((Value::Object(object), left)),
            _ => return None,
        }
    }
}

/// The rest of a string after its opening quote.
fn string(text: &str, quote: char) -> Option<(Value, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'x' => value.push(escaped(&mut chars, 2).and_then(char::from_u32)?),
                'u' => value.push(unicode(&mut chars)?),
                other => value.push(other),
            },
            c if c == quote => return Some((Value::String(value), &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

/// The number of an escape with so many hexadecimal digits.
fn escaped(chars: &mut std::str::CharIndices<'_>, n: usize) -> Option<u32> {
    (0..n).try_fold(0, |number, _| Some(number * 16 + chars.next()?.1.to_digit(16)?))
}

/// The character of an escape with four digits, or of a pair of them, as JSON writes it.
fn unicode(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let first = escaped(chars, 4)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first);
    }
    let is_pair = chars.next()?.1 == '\\' && chars.next()?.1 == 'u';
    let second = escaped(chars, 4)?.checked_sub(0xDC00).filter(|_| is_pair)?;
    char::from_u32(0x10000 + (first - 0xD800) * 0x400 + second)
}
