//! Calls of tools, as models write them: in JSON, after the tool's name, in tags (`calls_in_tags`), or in Python
//! (`calls_in_python`).

use serde_json::{Map, Value};

use super::ToolCall;
use super::calls_in_python::{read_python, read_python_call};
use super::calls_in_tags::{read_braces, read_tags};

/// Markers inside of a call: before the name, between name and arguments, after the arguments. Each may be empty.
const NAMED: [[&str; 3]; 4] = [
    ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"],
    ["<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"],
    ["<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"],
    ["", "[ARGS]", ""],
];

/// The calls between the markers of a tool call; none if they cannot be read.
pub(super) fn read_calls(body: &str) -> Vec<ToolCall> {
    let read = in_json(body)
        .or_else(|| after_names(body))
        .or_else(|| read_braces(body))
        .or_else(|| read_tags(body))
        .or_else(|| read_python(body))
        .or_else(|| read_python_call(body));
    read.unwrap_or_default()
}

/// One call of a recipient such as `functions.get_weather`. Functions take an object, other tools any text.
pub(super) fn call_of(recipient: &str, arguments: &str) -> Option<ToolCall> {
    let (name, is_function) = match recipient.strip_prefix("functions.") {
        Some(name) => (name, true),
        None => (recipient, false),
    };
    let arguments = match serde_json::from_str(arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ if is_function => return None,
        _ => Value::String(arguments.to_owned()),
    };
    Some(ToolCall { id: None, name: name.to_owned(), arguments })
}

/// Calls as JSON: one object or several, or a list.
fn in_json(body: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(body).into_iter::<Value>() {
        match value.ok()? {
            Value::Array(list) => {
                for one in list {
                    calls.push(of_object(one)?);
                }
            }
            one => calls.push(of_object(one)?),
        }
    }
    (!calls.is_empty()).then_some(calls)
}

/// `{"name": …, "arguments": …}` in the spellings of the models, or `{NAME: {…}}`.
fn of_object(value: Value) -> Option<ToolCall> {
    let Value::Object(mut object) = value else { return None };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let name = ["name", "tool_name"].into_iter().find_map(|key| object.get(key)?.as_str().map(str::to_owned));
    let Some(name) = name else {
        let (name, arguments) = if object.len() == 1 { object.into_iter().next()? } else { return None };
        return arguments.is_object().then_some(ToolCall { id: None, name, arguments });
    };
    let arguments = ["arguments", "parameters", "args"].into_iter().find_map(|key| object.remove(key));
    let arguments = match arguments {
        None => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object,
        // Arguments that were written as a text of JSON.
        Some(Value::String(text)) => serde_json::from_str(&text).ok().filter(Value::is_object)?,
        Some(_) => return None,
    };
    let id = ["id", "tool_call_id"].into_iter().find_map(|key| object.remove(key).and_then(text));
    Some(ToolCall { id, name, arguments })
}

/// Names before their arguments in JSON.
fn after_names(body: &str) -> Option<Vec<ToolCall>> {
    let [begin, between, end] = *NAMED.iter().find(|[_, between, _]| body.contains(between))?;
    let mut calls = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find(between) {
        let (head, tail) = (&rest[..at], &rest[at + between.len()..]);
        let name = head.rsplit(begin).next().filter(|_| !begin.is_empty()).unwrap_or(head);
        // Text other than markers before the name belongs to no call.
        let (name, written, left) = match end.is_empty() {
            true => (name, tail, ""),
            false => {
                let (written, left) = tail.split_once(end).unwrap_or((tail, ""));
                (name, written, left)
            }
        };
        calls.push(named(name.trim(), written.trim())?);
        rest = left;
    }
    Some(calls)
}

/// A call by its name, which may have an id or the kind of the tool, and its arguments, which may be fenced.
fn named(name: &str, written: &str) -> Option<ToolCall> {
    // DeepSeek R1: `function`, then the name in a line of its own, then a fenced object.
    let (name, written) = match written.split_once('\n') {
        Some((first, rest)) if name == "function" => (first.trim(), rest),
        _ => (name, written),
    };
    let (name, id) = match name.split_once("[CALL_ID]") {
        Some((name, id)) => (name, Some(id.to_owned())),
        None => (name, None),
    };
    // Kimi K2: `functions.NAME:INDEX` is the call's id.
    let (name, id) = match name.strip_prefix("functions.").and_then(|short| short.rsplit_once(':')) {
        Some((short, _)) => (short, Some(name.to_owned())),
        None => (name, id),
    };
    let fenced = written.trim().strip_prefix("```json").and_then(|rest| rest.trim_end().strip_suffix("```"));
    let arguments = serde_json::from_str(fenced.unwrap_or(written)).ok().filter(Value::is_object)?;
    is_name(name).then(|| ToolCall { id, name: name.to_owned(), arguments })
}

/// True if a tool can have this name.
pub(in crate::text) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_character)
}

/// True if the name of a tool can have this character.
pub(in crate::text) fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || "_-.:/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> ToolCall {
        let calls = read_calls(body);
        assert_eq!(calls.len(), 1, "{body}");
        calls.into_iter().next().unwrap()
    }

    /// The bodies are what the chat templates of these models write for the same call.
    #[test]
    fn calls_are_read_in_the_spellings_of_the_templates() {
        let arguments: Value = serde_json::from_str(r#"{"city": "Oslo", "n": 3}"#).unwrap();
        for (id, body) in [
            (None, r#"{"name": "get_weather", "arguments": {"city": "Oslo", "n": 3}}"#),
            (None, r#"[{"name": "get_weather", "arguments": {"city": "Oslo", "n": 3}}]"#),
            (None, r#"[{"get_weather": {"city": "Oslo", "n": 3}}]"#),
            (None, r#"{"name": "get_weather", "arguments": "{\"city\": \"Oslo\", \"n\": 3}"}"#),
            (
                Some("0"),
                r#"[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Oslo", "n": 3}}]"#,
            ),
            (
                Some("call12345"),
                r#"[{"name": "get_weather", "arguments": {"city": "Oslo", "n": 3}, "id": "call12345"}]"#,
            ),
            (None, r#"get_weather[ARGS]{"city": "Oslo", "n": 3}"#),
            (Some("call12345"), r#"get_weather[CALL_ID]call12345[ARGS]{"city": "Oslo", "n": 3}"#),
            (
                None,
                "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\", \"n\": 3}\n```<｜tool▁call▁end｜>",
            ),
            (
                None,
                r#"<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo", "n": 3}<｜tool▁call▁end｜>"#,
            ),
            (
                Some("functions.get_weather:0"),
                r#"<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Oslo", "n": 3}<|tool_call_end|>"#,
            ),
            (
                None,
                r#"<|tool_call:begin|>call12345<|tool_call:name|>get_weather<|tool_call:args|>{"city": "Oslo", "n": 3}<|tool_call:end|>"#,
            ),
            (
                None,
                "<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>",
            ),
            (
                None,
                "<function=get_weather>\n<parameter=city>Oslo</parameter>\n<parameter=n>3</parameter>\n</function>",
            ),
            (
                None,
                "<invoke name=\"get_weather\">\n<parameter name=\"city\">Oslo</parameter>\n<parameter name=\"n\">3</parameter>\n</invoke>",
            ),
            (
                None,
                "<atem:function_calls>\n<atem:invoke name=\"get_weather\">\n<atem:parameter name=\"city\">Oslo</atem:parameter>\n\
                 <atem:parameter name=\"n\">3</atem:parameter>\n</atem:invoke>\n</atem:function_calls>",
            ),
            (
                None,
                "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Oslo</｜DSML｜parameter>\n\
                 <｜DSML｜parameter name=\"n\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>",
            ),
            (
                None,
                "get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>n</arg_key>\n<arg_value>3</arg_value>",
            ),
            (
                None,
                "get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>n</arg_key><arg_value>3</arg_value>",
            ),
            (None, "call:get_weather{city:<|\"|>Oslo<|\"|>,n:3}"),
            (None, "[get_weather(city='Oslo', n=3)]"),
            (None, "get_weather.call(city=\"Oslo\", n=3)"),
        ] {
            let id = id.map(str::to_owned);
            let expected = ToolCall { id, name: "get_weather".into(), arguments: arguments.clone() };
            assert_eq!(one(body), expected, "{body}");
        }
    }

    #[test]
    fn several_calls_are_read() {
        let two = "{\"name\": \"a\", \"arguments\": {}}\n{\"name\": \"b\", \"arguments\": {}}";
        let names = |body: &str| read_calls(body).into_iter().map(|call| call.name).collect::<Vec<_>>();
        assert_eq!(names(two), ["a", "b"]);
        let kimi = "<|tool_call_begin|>functions.a:0<|tool_call_argument_begin|>{}<|tool_call_end|>\
                    <|tool_call_begin|>functions.b:1<|tool_call_argument_begin|>{}<|tool_call_end|>";
        assert_eq!(names(kimi), ["a", "b"]);
        assert_eq!(names("<function=a>\n</function>\n<function=b>\n</function>"), ["a", "b"]);
    }

    #[test]
    fn a_body_that_is_no_call_gives_none() {
        for body in [
            "",
            "hello",
            "{\"name\": \"a\"",
            "{\"city\": \"Oslo\", \"n\": 3}",
            "{\"name\": \"a\", \"arguments\": 3}",
            "get weather[ARGS]{}",
            "get_weather[ARGS]{\"city\"",
            "<function=a><parameter=b>c",
            "<function=a> and so on",
            "a<arg_key>b</arg_key>",
            "call:f{a:",
            "call:f{a:1} or so",
            "[f(a=1)] or so",
            "[f(1)]",
            "[f(a='b)]",
            "[1, 2]",
            &format!("[f(a={})]", "[".repeat(10_000)),
            &"[".repeat(10_000),
            &format!("call:f{{a:{}", "[".repeat(10_000)),
        ] {
            assert!(read_calls(body).is_empty(), "{body}");
        }
    }
}
