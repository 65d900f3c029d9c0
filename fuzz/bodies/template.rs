//! Any bytes as a chat template: a prompt or an error, in bounded time and memory.

use std::time::{Duration, SystemTime};

use rfgraph::text::{ChatTemplate, Message, RenderOptions};

/// Pieces of templates. A byte names one, so that random bytes are often a template.
const PIECES: &[&str] = &[
    "{{ ",
    " }}",
    "{% if ",
    " %}",
    "{% endif %}",
    "{% else %}",
    "{% elif ",
    "{% for x in ",
    "{% endfor %}",
    "{% set x = ",
    "{% set ns.x = ",
    "{% set ns = namespace(x=1) %}",
    "{% set x %}",
    "{% endset %}",
    "{% macro f(x, y=1) %}",
    "{% endmacro %}",
    "{% call f(1) %}",
    "{% endcall %}",
    "{% filter upper %}",
    "{% endfilter %}",
    "{% raw %}",
    "{% endraw %}",
    "{#",
    "#}",
    "{%- ",
    " -%}",
    "{{- ",
    " -}}",
    "{% break %}",
    "{% continue %}",
    "{% with x = ",
    "{% endwith %}",
    "messages",
    "messages[0]",
    "message",
    "x",
    "y",
    "ns.x",
    "loop",
    "loop.index",
    "loop.cycle(",
    "loop(",
    "caller()",
    "f(",
    "varargs",
    ".content",
    ".role",
    "[0]",
    "[-1]",
    "[::-1]",
    "[1:",
    ":2]",
    "['a']",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "'a'",
    "'%s %5.2f'",
    "'{} {:>9}'",
    "\"b\\n\"",
    "'<'",
    "1",
    "0",
    "-1",
    "2.5",
    "1e300",
    "99999",
    "9223372036854775807",
    "true",
    "none",
    "undefined_name",
    " + ",
    " - ",
    " * ",
    " / ",
    " // ",
    " % ",
    " ** ",
    " ~ ",
    " == ",
    " < ",
    " >= ",
    " in ",
    " not in ",
    " and ",
    " or ",
    " not ",
    " is ",
    " is not ",
    " if ",
    " else ",
    "|",
    "|upper",
    "|length",
    "|list",
    "|tojson(indent=2)",
    "|join(', ')",
    "|map('upper')",
    "|selectattr('role', 'eq', ",
    "|sort",
    "|batch(2)",
    "|replace('a', ",
    "|indent(4)",
    "|safe",
    "|groupby('role')",
    "|round(2)",
    "|int",
    "|default(",
    ".split(",
    ".format(",
    ".items()",
    ".get('a')",
    ".join(",
    ".replace('a', ",
    ".center(",
    ".zfill(",
    "range(",
    "namespace(x=",
    "dict(a=",
    "joiner()",
    "cycler(1, 2)",
    "strftime_now('%Y %-d')",
    "raise_exception(",
    "\n",
];

/// Separates the source from the texts of the conversation.
const END: u8 = 0xFF;

/// Roles of messages.
const ROLES: &[&str] = &["user", "assistant", "system", "tool", "developer", ""];

/// The source that the bytes stand for: pieces after a zero byte, else text.
pub fn source_of(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((0, pieces)) => pieces.iter().map(|&byte| PIECES[usize::from(byte) % PIECES.len()]).collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The conversation that the bytes stand for: each part is a message, whose first byte is its role and whether it calls
/// a tool or has thoughts. A message of the user is the last.
fn conversation(parts: &[&[u8]]) -> Vec<Message> {
    let usual = [
        Message::new("system", "Be brief."),
        Message::new("user", "Hi <b> \"there\"\n"),
        Message::new("assistant", "4"),
    ];
    let message = |part: &&[u8]| {
        let (first, text) = part.split_first().unwrap_or((&0, &[]));
        let text = String::from_utf8_lossy(text).into_owned();
        let mut message = Message::new(ROLES[usize::from(*first) % ROLES.len()], text.clone());
        if first & 32 != 0 {
            message.tool_calls = vec![serde_json::json!({
                "id": text, "type": "function", "function": {"name": "f", "arguments": {"a": [text, 1, null]}}
            })];
        }
        message.reasoning_content = (first & 64 != 0).then_some(text);
        message
    };
    let given: Vec<Message> = parts.iter().map(message).collect();
    let mut messages = if given.is_empty() { usual.to_vec() } else { given };
    messages.push(Message::new("user", "한국어 🦙"));
    messages
}

/// Compiles the source that the bytes stand for, and renders the conversation. True if there is a prompt.
pub fn template(bytes: &[u8]) -> bool {
    let mut parts = bytes.split(|byte| *byte == END);
    let source = source_of(parts.next().unwrap_or_default());
    let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") else { return false };
    let messages = conversation(&parts.collect::<Vec<_>>());
    let tools = [
        serde_json::json!({"type": "function", "function": {"name": "f", "parameters": {"a": [1, 2.5, null]}}}),
    ];
    let now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_230_245));
    let options =
        RenderOptions { add_generation_prompt: true, tools: &tools, now, ..RenderOptions::default() };
    let rendered = template.render_with(&messages, &options);
    rendered.is_ok_and(|prompt| {
        // The promise of every prompt that is no error.
        assert!(prompt.contains("한국어"), "the last message is missing");
        true
    })
}
