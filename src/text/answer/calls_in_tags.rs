//! Calls of tools in tags, and in Gemma 4's braces.

use serde_json::{Map, Value};

use super::ToolCall;
use super::calls::is_name;

/// Deepest nesting of lists and objects in a call.
const DEEPEST: usize = 64;

/// Ways to write a call in tags: before the name, after it, before a parameter's name, after it, after its value, after
/// the call. `P` stands for a model's prefix of tag names.
struct Form {
    call: &'static str,
    parameter: &'static str,
    name_end: &'static str,
    parameter_close: &'static str,
    close: &'static str,
    /// The prefix of tag names.
    prefix: &'static str,
}

const FORMS: [Form; 4] = [
    Form {
        call: "<function=",
        parameter: "<parameter=",
        name_end: ">",
        parameter_close: "</parameter>",
        close: "</function>",
        prefix: "",
    },
    quoted(""),
    quoted("atem:"),
    quoted("｜DSML｜"),
];

const fn quoted(prefix: &'static str) -> Form {
    Form {
        call: "invoke name=\"",
        parameter: "parameter name=\"",
        name_end: "\"",
        parameter_close: "parameter>",
        close: "invoke>",
        prefix,
    }
}

/// Calls in tags; `None` if a call does not end or has something else in it.
pub(super) fn read_tags(body: &str) -> Option<Vec<ToolCall>> {
    if body.contains("<arg_key>") {
        return read_pairs(body).map(|call| vec![call]);
    }
    FORMS.iter().find_map(|form| form.read(body))
}

impl Form {
    fn open(&self, tag: &str) -> String {
        match tag.starts_with('<') {
            true => tag.to_owned(),
            false => format!("<{}{tag}", self.prefix),
        }
    }

    fn close(&self, tag: &str) -> String {
        match tag.starts_with('<') {
            true => tag.to_owned(),
            false => format!("</{}{tag}", self.prefix),
        }
    }

    fn read(&self, body: &str) -> Option<Vec<ToolCall>> {
        let (call, parameter) = (self.open(self.call), self.open(self.parameter));
        let (parameter_close, close) = (self.close(self.parameter_close), self.close(self.close));
        let mut calls = Vec::new();
        let mut rest = &body[body.find(&call)?..];
        while let Some(after) = rest.strip_prefix(&call) {
            let (name, mut inner) = after.split_once(self.name_end)?;
            inner = inner.strip_prefix('>').unwrap_or(inner).trim_start();
            let mut arguments = Map::new();
            while let Some(after) = inner.strip_prefix(&parameter) {
                let (key, after) = after.split_once(self.name_end)?;
                // The rest of the tag: an attribute says if the value is a text.
                let (attributes, after) = match self.name_end {
                    ">" => ("", after),
                    _ => after.split_once('>')?,
                };
                let (value, after) = after.split_once(&parameter_close)?;
                let value = match attributes.contains("string=\"true\"") {
                    true => Value::String(value.to_owned()),
                    false => value_of(value),
                };
                arguments.insert(key.to_owned(), value);
                inner = after.trim_start();
            }
            rest = inner.strip_prefix(&close)?.trim_start();
            if !is_name(name) {
                return None;
            }
            calls.push(ToolCall { id: None, name: name.to_owned(), arguments: Value::Object(arguments) });
        }
        // Only the closing tag around the calls may follow.
        (rest.is_empty() || rest.starts_with("</")).then_some(calls)
    }
}

/// A name, then keys and values in tags of their own (GLM).
fn read_pairs(body: &str) -> Option<ToolCall> {
    let (name, _) = body.split_once("<arg_key>")?;
    let mut arguments = Map::new();
    let mut rest = &body[name.len()..];
    while let Some(after) = rest.strip_prefix("<arg_key>") {
        let (key, after) = after.split_once("</arg_key>")?;
        let after = after.trim_start().strip_prefix("<arg_value>")?;
        let (value, after) = after.split_once("</arg_value>")?;
        arguments.insert(key.to_owned(), value_of(value));
        rest = after.trim_start();
    }
    let name = name.trim();
    (rest.is_empty() && is_name(name)).then(|| ToolCall {
        id: None,
        name: name.to_owned(),
        arguments: Value::Object(arguments),
    })
}

/// A value in a tag. Tags have no types: what reads as a number, a truth value, a list or an object is one.
fn value_of(text: &str) -> Value {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| !value.is_string())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Gemma 4's calls: `call:NAME{key:<|"|>text<|"|>,n:3}`.
pub(super) fn read_braces(body: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    let mut rest = body;
    while let Some(after) = rest.strip_prefix("call:") {
        let (name, _) = after.split_once('{').filter(|(name, _)| is_name(name))?;
        let (arguments, left) = braces_value(&after[name.len()..], 0)?;
        calls.push(ToolCall { id: None, name: name.to_owned(), arguments });
        rest = left.trim_start();
    }
    (!calls.is_empty() && rest.is_empty()).then_some(calls)
}

/// Gemma 4's quotation mark.
const QUOTE: &str = "<|\"|>";

/// A value in Gemma 4's notation, and the text after it.
pub(in crate::text) fn braces(text: &str) -> Option<(Value, &str)> {
    braces_value(text, 0)
}

fn braces_value(text: &str, depth: usize) -> Option<(Value, &str)> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(after) = text.strip_prefix(QUOTE) {
        let (inner, left) = after.split_once(QUOTE)?;
        return Some((Value::String(inner.to_owned()), left));
    }
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut object = Map::new();
        if let Some(left) = rest.strip_prefix('}') {
            return Some((Value::Object(object), left));
        }
        loop {
            let (key, after) = rest.split_once(':')?;
            let key = key.trim().trim_start_matches(QUOTE).trim_end_matches(QUOTE);
            let (value, left) = braces_value(after.trim_start(), depth + 1)?;
            object.insert(key.to_owned(), value);
            match left.chars().next()? {
                ',' => rest = &left[1..],
                '}' => return Some((Value::Object(object), &left[1..])),
                _ => return None,
            }
        }
    }
    if let Some(mut rest) = text.strip_prefix('[') {
        let mut list = Vec::new();
        if let Some(left) = rest.strip_prefix(']') {
            return Some((Value::Array(list), left));
        }
        loop {
            let (value, left) = braces_value(rest.trim_start(), depth + 1)?;
            list.push(value);
            match left.chars().next()? {
                ',' => rest = &left[1..],
                ']' => return Some((Value::Array(list), &left[1..])),
                _ => return None,
            }
        }
    }
    let end = text.find([',', '}', ']'])?;
    let value = serde_json::from_str(text[..end].trim()).ok()?;
    Some((value, &text[end..]))
}
