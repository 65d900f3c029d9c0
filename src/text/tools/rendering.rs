//! Renderings of made-up calls, whose names, ids, keys and values are texts that stand nowhere else.

use serde_json::{Value, json};

use super::form::{Pattern, Piece, after_marker, shared_end};
use crate::text::answer::{ANSWER_MARKERS, MarkerRole};
use crate::text::template::{ChatTemplate, Message, RenderOptions};
use crate::text::tokenizer::{END_NAMES, Tokenizer};

pub(super) const NAMES: [&str; 3] = ["qtool_one", "qtool_two", "qtool_six"];
pub(super) const KEYS: [&str; 2] = ["qkey_one", "qkey_two"];
pub(super) const TEXTS: [&str; 2] = ["qvalue_one", "qvalue_two"];
pub(super) const IDS: [&str; 3] = ["call00001", "call00002", "call00003"];
pub(super) const QUESTION: &str = "qquestion";
pub(super) const CONTENT: &str = "Qcontent";
pub(super) const THOUGHTS: &str = "Qthoughts";

/// The stand-ins of ids.
pub(super) const ID_PIECES: [(&str, Piece); 3] =
    [(IDS[0], Piece::Id), (IDS[1], Piece::Id), (IDS[2], Piece::Id)];

/// Renderings by one template.
pub(super) struct Probe<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    tools: Vec<Value>,
    /// Arguments are given as texts: the template takes no objects.
    pub(super) as_text: bool,
    /// The rendering up to where an answer's calls may begin.
    pub(super) base: String,
    /// The rendering of a text as the answer.
    pub(super) said: Option<String>,
}

fn tool(name: &str) -> Value {
    let properties = json!({KEYS[0]: {"type": "string", "description": "d"}, KEYS[1]: {"type": "string", "description": "d"}});
    let parameters = json!({"type": "object", "properties": properties, "required": []});
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}})
}

impl<'a> Probe<'a> {
    pub(super) fn new(template: &'a ChatTemplate, tokenizer: &'a Tokenizer) -> Probe<'a> {
        let tools = NAMES.map(tool).into();
        let mut probe = Probe { template, tokenizer, tools, as_text: false, base: String::new(), said: None };
        probe.said = probe.render(Some(Message::new("assistant", CONTENT)), false);
        probe
    }
}

impl Probe<'_> {
    pub(super) fn render(&self, answer: Option<Message>, add_generation_prompt: bool) -> Option<String> {
        let mut messages = vec![Message::new("user", QUESTION)];
        messages.extend(answer);
        let options = RenderOptions { add_generation_prompt, tools: &self.tools, ..RenderOptions::default() };
        self.template.render_with(&messages, &options).ok()
    }

    /// The rendering of a message with calls, of these arguments each.
    pub(super) fn calls(&self, arguments: &[&Value], thoughts: Option<&str>) -> Option<String> {
        let calls = arguments.iter().zip(NAMES).zip(IDS).map(|((arguments, name), id)| {
            let arguments = if self.as_text { json!(arguments.to_string()) } else { (*arguments).clone() };
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
        let message = Message {
            tool_calls: calls.collect(),
            reasoning_content: thoughts.map(str::to_owned),
            ..Message::new("assistant", "")
        };
        self.render(Some(message), false)
    }

    /// The answer of these calls, from where calls may begin to the token that ends it. `last` is the last text
    /// that surely belongs to the calls.
    pub(super) fn answer(&self, arguments: &[&Value], last: &str) -> Option<String> {
        let rendered = self.calls(arguments, None)?;
        let written = rendered.strip_prefix(&self.base)?;
        let sure = written.rfind(last)? + last.len();
        Some(written[..self.end(written, sure)].trim_end().to_owned())
    }

    /// The end of an answer, of which the first `sure` bytes belong to it.
    fn end(&self, written: &str, sure: usize) -> usize {
        let rows = ANSWER_MARKERS.iter().filter(|row| row.role == MarkerRole::ToolCall);
        let known = rows.filter(|row| written[..sure].contains(row.open));
        let closed =
            known.filter_map(|row| Some(sure + written[sure..].rfind(row.close?)? + row.close?.len()));
        if let Some(end) = closed.max() {
            return end;
        }
        let said = self.said.as_deref().unwrap_or_default();
        let said = said.rfind(CONTENT).map_or("", |at| &said[at + CONTENT.len()..]);
        let shared = shared_end(&written[sure..], said);
        let mut end = after_marker(written, written.len() - shared);
        if let Some(at) = self.find_end(&written[sure..end]) {
            end = sure + at;
        }
        end
    }

    /// The first token in a text that ends an answer.
    pub(super) fn find_end(&self, text: &str) -> Option<usize> {
        let of_file = self.tokenizer.end_tokens().iter().filter_map(|&id| self.tokenizer.token_text(id));
        // `<|end|>` closes messages inside of some answers.
        let named = END_NAMES.iter().map(|end| end.name).filter(|name| *name != "<|end|>");
        let known = named.filter(|name| self.tokenizer.special_id(name).is_none());
        of_file.chain(known).filter(|name| !name.is_empty()).filter_map(|name| text.find(name)).min()
    }
}

/// The text before a call's arguments.
pub(super) struct Head {
    /// Up to the tool's name, which is included.
    pub(super) name: Pattern,
    /// The rest.
    pub(super) rest: Pattern,
}

impl Head {
    /// The text before the arguments of the call with this number.
    pub(super) fn of(text: &str, n: usize) -> Option<Head> {
        let end = text.rfind(NAMES[n])? + NAMES[n].len();
        let stand_ins = [&ID_PIECES[..], &[(NAMES[n], Piece::Name)]].concat();
        Some(Head {
            name: Pattern::of(&text[..end], &stand_ins),
            rest: Pattern::of(&text[end..], &stand_ins),
        })
    }
}
