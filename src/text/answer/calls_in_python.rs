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

/// Named arguments up to the closing parenthesis, and the text after it.
fn arguments(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut arguments = Map::new();
    let mut rest = text.trim_start();
    if let Some(left) = rest.strip_prefix(')') {
        return Some((arguments, left));
    }
    loop {
        let (key, after) = rest.split_once('=').filter(|(key, _)| is_name(key.trim()))?;
        let (value, left) = literal(after.trim_start(), 0)?;
        arguments.insert(key.trim().to_owned(), value);
        match left.trim_start().split_at_checked(1)? {
            (",", more) => rest = more.trim_start(),
            (")", left) => return Some((arguments, left)),
            _ => return None,
        }
    }
}

/// A Python literal, and the text after it.
fn literal(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > DEEPEST {
        return None;
    }
    match text.chars().next()? {
        quote @ ('\'' | '"') => string(&text[1..], quote),
        '[' => list(text[1..].trim_start(), depth),
        '{' => dictionary(text[1..].trim_start(), depth),
        _ => {
            let end = text.find([',', ')', ']', '}', ':'])?;
            let value = match text[..end].trim() {
                "True" => Value::Bool(true),
                "False" => Value::Bool(false),
                "None" => Value::Null,
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
        let (value, left) = literal(rest, depth + 1)?;
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
        let (Value::String(key), left) = literal(rest, depth + 1)? else { return None };
        let (value, left) = literal(left.trim_start().strip_prefix(':')?.trim_start(), depth + 1)?;
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
                other => value.push(other),
            },
            c if c == quote => return Some((Value::String(value), &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}
