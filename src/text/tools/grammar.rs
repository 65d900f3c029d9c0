//! The constraint of a form: a grammar in Lark whose rules write calls as the form does, with the tools' schemas.
//!
//! Special tokens of the form are tokens of the grammar, so that no other spelling of them is a marker, and no text
//! contains one. A text that a marker ends is one terminal with the plain text of that marker: the library's lexer takes
//! the longest match, and never goes back.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::form::{Arguments, Form, OBJECT, Pattern, Piece, Values};
use super::kinds::kinds;
use super::texts::{ANY, Texts, escaped, literal, without};
use super::{Tool, ToolError, ToolFormat};
use crate::text::constraint::{Constraint, ConstraintFactory, Embedded, Refusal};
use crate::text::tokenizer::Tokenizer;

/// White space before text and calls.
const SPACE: &str = "/[ \\n]{1,8}/?";

/// A constraint on answers.
pub(super) fn constraint(
    format: &ToolFormat,
    factory: &ConstraintFactory,
    tools: &[Tool],
    required: bool,
    parallel: bool,
) -> Result<Constraint, ToolError> {
    let mut grammar = Grammar {
        form: &format.form,
        tokenizer: &format.tokenizer,
        has_headers: format.answers.has_headers(),
        lark: String::new(),
        n_rules: 0,
        schemas: Embedded::default(),
        nested: HashMap::new(),
    };
    for (n, tool) in tools.iter().enumerate() {
        let refused = |refusal: Refusal| ToolError::Schema {
            tool: tool.name.clone(),
            path: refusal.path,
            reason: refusal.reason,
        };
        grammar.tool(n, tool).map_err(refused)?;
    }
    grammar.answer(tools.len(), required, parallel && format.is_parallel());
    let (lark, schemas) = (grammar.lark, grammar.schemas);
    let made = factory.embedding(&lark, schemas).map_err(|error| {
        // The library's reasons name no tool.
        let refused = tools.iter().find_map(|tool| Some((tool, factory.refusal(&tool.parameters, "#")?)));
        match refused {
            Some((tool, Refusal { path, reason })) => {
                ToolError::Schema { tool: tool.name.clone(), path, reason }
            }
            None => ToolError::Constraint(error),
        }
    })?;
    Ok(if format.answers.has_headers() { made.whole() } else { made })
}

/// A grammar in the making.
pub(super) struct Grammar<'g> {
    pub(super) form: &'g Form,
    tokenizer: &'g Tokenizer,
    /// Headers say what a part of an answer is.
    has_headers: bool,
    lark: String,
    n_rules: usize,
    pub(super) schemas: Embedded,
    /// The rules of the schemas of nested values, by their paths in the tool's schema.
    pub(super) nested: HashMap<String, String>,
}

impl Grammar<'_> {
    /// A name for a rule.
    pub(super) fn name(&mut self) -> String {
        self.n_rules += 1;
        format!("r{}", self.n_rules)
    }

    pub(super) fn define(&mut self, name: &str, body: &str) {
        let body = if body.trim().is_empty() { "\"\"" } else { body };
        let _ = writeln!(self.lark, "{name}: {body}");
    }

    /// Adds a rule with a name of its own.
    pub(super) fn rule(&mut self, body: &str) -> String {
        let name = self.name();
        self.define(&name, body);
        name
    }

    /// Adds a terminal.
    pub(super) fn terminal(&mut self, body: &str) -> String {
        self.n_rules += 1;
        let name = format!("T{}", self.n_rules);
        self.define(&name, body);
        name
    }

    /// A text of the form: its special tokens as tokens, the rest as text.
    pub(super) fn text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut at = 0;
        for (range, id) in self.tokenizer.special_tokens_in(text) {
            if range.start > at {
                let _ = write!(out, "{} ", literal(&text[at..range.start]));
            }
            let _ = write!(out, "<[{id}]> ");
            at = range.end;
        }
        if at < text.len() {
            let _ = write!(out, "{} ", literal(&text[at..]));
        }
        out
    }

    pub(super) fn pattern(&self, pattern: &Pattern, values: Values<'_>) -> String {
        let pieces = pattern.filled(values).0;
        let written = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => self.text(text),
            Piece::Id => "/[a-zA-Z0-9]{9}/ ".to_owned(),
            _ => "/[0-9]{1,3}/ ".to_owned(),
        });
        written.collect()
    }

    /// A text up to another one, which is included.
    pub(super) fn until(&mut self, texts: &Texts, forbidden: &[&str], end: &str) -> String {
        let special = self.tokenizer.special_tokens_in(end).into_iter().next().map(|(range, _)| range);
        let plain = special.as_ref().map_or(end, |range| &end[..range.start]);
        // Without white space, so that a text that almost ends so is not read as the end.
        let shortest = match plain.trim() {
            "" => special.map_or(end.trim(), |range| &end[range]),
            trimmed => trimmed,
        };
        let mut body = format!("{} & {}", texts.body, without(shortest));
        for text in forbidden.iter().filter(|text| !text.is_empty() && **text != shortest) {
            let _ = write!(body, " & {}", without(text));
        }
        if plain.is_empty() {
            let terminal = self.terminal(&body);
            let optional = if texts.may_be_empty { "?" } else { "" };
            return format!("{terminal}{optional} {}", self.text(end));
        }
        let terminal = self.terminal(&format!("({body}) {}", literal(plain)));
        format!("{terminal} {}", self.text(&end[plain.len()..]))
    }

    /// The rules of a tool: its arguments, and calls by what is before the name.
    fn tool(&mut self, n: usize, tool: &Tool) -> Result<(), Refusal> {
        let form = self.form;
        self.nested.clear();
        let arguments = match &form.arguments {
            Arguments::Json(before) => {
                let schema = object_schema(&tool.parameters)?;
                let before = self.pattern(before, Values::default());
                format!("{before}{}", self.schemas.schema(&schema, "#")?)
            }
            Arguments::Members(members) => self.members(members, tool)?,
        };
        let arguments = self.rule(&arguments);
        let values = Values { name: &tool.name, ..Values::default() };
        let lead = form.first.leading_text();
        let left_out = if self.has_headers { 0 } else { space(lead) };
        let mut heads = vec![
            (Head::First, form.first.without(left_out)),
            (Head::Marked, form.first.without(form.lead + form.open.len())),
        ];
        if let Some(rest) = self.spoken().and_then(|spoken| lead.strip_prefix(&spoken)) {
            heads.push((Head::Spoken, form.first.without(lead.len() - rest.len())));
        }
        if let Some(next) = &form.next {
            let between = next.leading_text();
            heads.push((Head::Next, next.clone()));
            heads.push((Head::AfterText, next.without(space(between) + between.trim().len())));
        }
        for (head, pattern) in heads {
            let before = self.pattern(&pattern, values);
            self.define(&format!("{}{n}", head.letter()), &format!("{before}{arguments}"));
        }
        Ok(())
    }

    /// The marks around a text, if calls may follow after it.
    fn spoken(&self) -> Option<String> {
        let spoken = format!("{}{}", self.form.text_lead, self.form.text_tail);
        (!spoken.trim().is_empty() && self.form.first.leading_text().starts_with(&spoken)).then_some(spoken)
    }

    /// The rules of an answer.
    fn answer(&mut self, n_tools: usize, required: bool, several: bool) {
        let calls = Calls {
            n_tools,
            others: if several { "next*" } else { "" },
            tail: self.pattern(&self.form.tail, Values::default()),
        };
        let mut answers = Vec::new();
        if n_tools > 0 {
            self.define("calls", &calls.from(Head::First));
            self.define("marked", &calls.from(Head::Marked));
            if several {
                self.define("next", &calls.any(Head::Next));
            }
            answers.push(format!("{} calls", if self.has_headers { "" } else { SPACE }));
        }
        if !required {
            answers.extend(match self.has_headers {
                true => vec![format!("{} {}?", self.text(&self.form.text_lead), self.terminal(ANY))],
                false => self.said(&calls),
            });
        }
        let before = self.thoughts(required);
        self.define("start", &format!("{before} ({})", answers.join(" | ")));
    }

    /// Messages of thoughts, and before text or calls of announcements.
    fn thoughts(&mut self, required: bool) -> String {
        let Some([open, close]) = &self.form.thoughts else { return String::new() };
        let mut opens = vec![open.clone()];
        if open.contains("analysis") && !required {
            opens.push(open.replace("analysis", "commentary"));
        }
        let messages: Vec<String> = opens
            .iter()
            .map(|open| format!("{}{}", self.text(open), self.until(&Texts::any(), &[], close)))
            .collect();
        format!("({})*", messages.join(" | "))
    }

    /// Answers that are text, perhaps with calls after it.
    fn said(&mut self, calls: &Calls) -> Vec<String> {
        let form = self.form;
        let mut said = Vec::new();
        let (lead, close) = (form.text_lead.trim_start(), form.text_tail.trim());
        if !lead.trim().is_empty() && !close.is_empty() {
            let marks =
                format!("{}{}", self.text(lead), self.until(&Texts::any(), &[form.open.as_str()], close));
            let after = match self.spoken() {
                Some(_) => calls.from(Head::Spoken),
                None => "calls".into(),
            };
            said.push(match calls.n_tools {
                0 => marks,
                _ => format!("{marks} ({SPACE} {after})?"),
            });
        }
        if form.open.is_empty() {
            said.extend(self.said_unmarked(calls, lead));
            return said;
        }
        let no_call = without(&form.open);
        let free = self.terminal(&format!("{ANY} & {no_call}"));
        said.push(format!("{free}?"));
        let specials = self.tokenizer.special_tokens_in(&form.open);
        if calls.n_tools == 0 {
            return said;
        }
        said.push(match specials.first() {
            Some((range, _)) if range.start == 0 => format!("{free}? {} marked", self.text(&form.open)),
            _ => format!("{} marked", self.line_with(&no_call, &form.open)),
        });
        said
    }

    /// Texts where calls have no marker at the beginning of an answer.
    fn said_unmarked(&mut self, calls: &Calls, lead: &str) -> Vec<String> {
        let form = self.form;
        if lead.is_empty() {
            // The first character tells text from a call.
            let first = form.first.leading_text().trim_start().chars().next();
            let first = first.map_or(String::new(), |first| escaped(&first.to_string()));
            let free = self.terminal(&format!("/[ \\n]{{0,8}}[^\\s{first}](?s:.*)/"));
            return vec![format!("{free}?")];
        }
        let marker = form.next.as_ref().map_or("", |next| next.leading_text().trim());
        let lead = self.text(lead);
        if marker.is_empty() {
            return vec![format!("{SPACE} {lead} {}?", self.terminal(ANY))];
        }
        let free = self.terminal(&format!("{ANY} & {}", without(marker)));
        let mut said = vec![format!("{SPACE} {lead} {free}?")];
        if calls.n_tools > 0 {
            let line = self.line_with(&without(marker), marker);
            said.push(format!("{SPACE} {lead} {line} {}", calls.from(Head::AfterText)));
        }
        said
    }

    /// A text, and a marker at the beginning of its last line.
    fn line_with(&mut self, body: &str, marker: &str) -> String {
        self.terminal(&format!("(/((?s:.*)\\n)?/ & {body}) {}", literal(marker)))
    }
}

/// The text before the name in a call.
#[derive(Clone, Copy)]
enum Head {
    First,
    /// After the marker that opens calls.
    Marked,
    /// After a text with marks around it.
    Spoken,
    /// After another call.
    Next,
    /// After a text, and the marker between calls.
    AfterText,
}

impl Head {
    fn letter(self) -> char {
        match self {
            Head::First => 'f',
            Head::Marked => 'm',
            Head::Spoken => 's',
            Head::Next => 'n',
            Head::AfterText => 't',
        }
    }
}

/// The calls of an answer.
struct Calls {
    n_tools: usize,
    /// The calls after the first one.
    others: &'static str,
    tail: String,
}

impl Calls {
    fn any(&self, head: Head) -> String {
        let rules: Vec<String> = (0..self.n_tools).map(|n| format!("{}{n}", head.letter())).collect();
        rules.join(" | ")
    }

    fn from(&self, head: Head) -> String {
        format!("({}) {} {}", self.any(head), self.others, self.tail)
    }
}

/// Bytes of white space at the beginning of a text.
fn space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// The schema of arguments as an object. Unless it says otherwise, an object whose properties are listed has no others.
fn object_schema(parameters: &Value) -> Result<Value, Refusal> {
    let allowed = kinds(parameters, parameters);
    if allowed & OBJECT == 0 {
        return Err(Refusal {
            path: "#".into(),
            reason: "it does not allow an object, which arguments are".into(),
        });
    }
    let Some(map) = parameters.as_object() else { return Ok(json!({"type": "object"})) };
    let mut map = map.clone();
    if allowed != OBJECT {
        map.insert("type".into(), "object".into());
    }
    let joined =
        ["$ref", "allOf", "anyOf", "oneOf", "patternProperties", "propertyNames", "unevaluatedProperties"];
    if map.contains_key("properties") && !joined.iter().any(|key| map.contains_key(*key)) {
        map.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    Ok(map.into())
}
