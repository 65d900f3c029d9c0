//! Forms of calls that templates do not show: of models that were trained on them, and one for all others.

use serde_json::Value;

use super::Tool;
use super::form::{Arguments, Around, Form, Members, Notation, Pattern, Piece};

const NAME: &str = "{name}";
const KEY: &str = "{key}";
const INDEX: &str = "{index}";

fn pattern(text: &str) -> Pattern {
    Pattern::of(text, &[(NAME, Piece::Name), (KEY, Piece::Key), (INDEX, Piece::Index)])
}

/// Texts before the first name, between two calls, before arguments and after the last call.
fn in_json(first: &str, next: &str, before: &str, tail: &str, markers: [&str; 2]) -> Form {
    form(first, next, Arguments::Json(pattern(before)), tail, markers)
}

fn form(first: &str, next: &str, arguments: Arguments, tail: &str, [open, close]: [&str; 2]) -> Form {
    Form {
        first: pattern(first),
        lead: 0,
        open: open.to_owned(),
        next: Some(pattern(next)),
        arguments,
        tail: pattern(tail),
        close: (!close.is_empty()).then(|| close.to_owned()),
        text_lead: String::new(),
        text_tail: String::new(),
        thoughts: None,
    }
}

/// The form of models without one: JSON between markers.
pub(super) fn generic() -> Form {
    in_json(
        "<tool_call>\n{\"name\": \"{name}",
        "}\n</tool_call>\n<tool_call>\n{\"name\": \"{name}",
        "\", \"arguments\": ",
        "}\n</tool_call>",
        ["<tool_call>", "</tool_call>"],
    )
}

/// LFM2's calls in Python.
fn python() -> Form {
    let around = |before: &str, after: &str, notation| {
        Some(Around { before: before.to_owned(), after: after.to_owned(), notation })
    };
    let mut all = [const { None }; 6].map(|_: Option<Around>| around("=", "", Notation::Json));
    all[3] = around("='", "'", Notation::Quoted('\''));
    let members = Members {
        none: pattern("("),
        first: pattern("({key}"),
        next: pattern(", {key}"),
        close: Pattern::default(),
        around: all,
    };
    let markers = ["<|tool_call_start|>", "<|tool_call_end|>"];
    form(
        "<|tool_call_start|>[{name}",
        "), {name}",
        Arguments::Members(Box::new(members)),
        ")]<|tool_call_end|>",
        markers,
    )
}

/// The forms by the markers that open calls, as other templates of the same models, or their authors, write them.
pub(super) fn all() -> Vec<Form> {
    vec![
        // Kimi K2: templates that call a method of Python's which this renderer refuses.
        in_json(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.{name}",
            "<|tool_call_end|><|tool_call_begin|>functions.{name}",
            ":{index}<|tool_call_argument_begin|>",
            "<|tool_call_end|><|tool_calls_section_end|>",
            ["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        ),
        // DeepSeek R1 and its distillations.
        in_json(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}",
            "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}",
            "\n```json\n",
            "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        ),
        python(),
        // Granite 3: its system text asks for a list.
        in_json(
            "<|tool_call|>[{\"name\": \"{name}",
            "}, {\"name\": \"{name}",
            "\", \"arguments\": ",
            "}]",
            ["<|tool_call|>", ""],
        ),
    ]
}

/// The instructions for a model without a form of calls.
pub(super) fn instructions(tools: &[Tool], shows_tools: bool) -> String {
    let mut text = String::new();
    if !shows_tools {
        text.push_str("You can call these functions, each described by a line of JSON:\n");
        for tool in tools {
            text.push_str(&Value::Object(tool.described.clone()).to_string());
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(
        "To call a function, write its name and its arguments, which satisfy its JSON schema, as JSON in these tags:\n\
         <tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"ARGUMENT\": \"VALUE\"}}\n</tool_call>\n\
         Several calls follow each other. The results come in the next message. Without a call, answer in plain text.",
    );
    text
}
