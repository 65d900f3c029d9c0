//! Control tokens spelled out in messages: text, never structure.
//!
//! A template writes messages between its own control tokens, and its output is searched for them. A user who writes
//! `<|im_end|>` must not end the message with it. So each control token in a message gets a mark after its first
//! character, a character that no message has; in the output the marks say which ones are text.

use std::borrow::Cow;

use serde_json::Value;

use super::{ChatTemplate, Message, RenderOptions, TemplateError};
use crate::text::answer::ANSWER_MARKERS;
use crate::text::tokenizer::{TokenKind, Tokenizer};

/// Characters that may become the mark: the first ones of a plane for private use.
const MARKS: std::ops::Range<u32> = 0xF_0000..0xF_1000;

impl ChatTemplate {
    /// Renders a conversation and encodes it. Control tokens are recognised in the template's own text only: those
    /// spelled in messages and tools are text. In an assistant's message, markers of the parts of answers stay
    /// structure, since templates divide earlier answers by them.
    ///
    /// # Errors
    /// As [`render_with`](ChatTemplate::render_with).
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions<'_>,
    ) -> Result<Vec<u32>, TemplateError> {
        let Some(mark) = mark_for(tokenizer, messages, options.tools) else {
            return Ok(tokenizer.encode_chat(&self.render_with(messages, options)?));
        };
        let marker = Marker { tokenizer, mark };
        let messages: Vec<Message> = messages.iter().map(|message| marker.message(message)).collect();
        let tools: Vec<Value> = options.tools.iter().map(|tool| marker.value(tool)).collect();
        let options = RenderOptions { tools: &tools, variables: options.variables.clone(), ..*options };
        let rendered = self.render_with(&messages, &options)?;
        let (text, literal) = without_marks(&rendered, mark);
        Ok(tokenizer.encode_chat_with(&text, &literal))
    }
}

/// A character that no text has; none if no text has a control token.
fn mark_for(tokenizer: &Tokenizer, messages: &[Message], tools: &[Value]) -> Option<char> {
    let (mut found, mut used) = (false, Vec::new());
    let mut look = |text: &str| {
        found |= !control_tokens(tokenizer, text).is_empty();
        used.extend(text.chars().filter(|&c| MARKS.contains(&u32::from(c))));
    };
    for message in messages {
        message.texts().for_each(&mut look);
        message.tool_calls.iter().for_each(|call| each_text(call, &mut look));
    }
    tools.iter().for_each(|tool| each_text(tool, &mut look));
    let mark = MARKS.filter_map(char::from_u32).find(|mark| !used.contains(mark));
    mark.filter(|_| found)
}

fn each_text(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, look)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            look(key);
            each_text(value, look);
        }),
        _ => {}
    }
}

/// The starts of the control tokens in a text, also of those that overlap.
fn control_tokens(tokenizer: &Tokenizer, text: &str) -> Vec<(usize, u32)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((range, id)) = tokenizer.special_token_from(text, at) {
        if tokenizer.kind(id) != Some(TokenKind::UserDefined) {
            found.push((range.start, id));
        }
        at = range.start + first_char(&text[range.start..]);
    }
    found
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

struct Marker<'t> {
    tokenizer: &'t Tokenizer,
    mark: char,
}

impl Marker<'_> {
    fn message(&self, message: &Message) -> Message {
        let spared: Vec<u32> = match message.role.as_str() {
            "assistant" => ANSWER_MARKERS
                .iter()
                .flat_map(|markers| markers.texts())
                .filter_map(|text| self.tokenizer.special_id(text))
                .collect(),
            _ => Vec::new(),
        };
        let text = |text: &String| self.text(text, &spared).into_owned();
        Message {
            role: text(&message.role),
            content: text(&message.content),
            reasoning_content: message.reasoning_content.as_ref().map(text),
            tool_calls: message.tool_calls.iter().map(|call| self.value(call)).collect(),
            name: message.name.as_ref().map(text),
            tool_call_id: message.tool_call_id.as_ref().map(text),
        }
    }

    fn text<'s>(&self, text: &'s str, spared: &[u32]) -> Cow<'s, str> {
        let found = control_tokens(self.tokenizer, text);
        let mut found = found.into_iter().filter(|(_, id)| !spared.contains(id)).peekable();
        if found.peek().is_none() {
            return text.into();
        }
        let (mut marked, mut done) = (String::with_capacity(text.len() + 16), 0);
        for (start, _) in found {
            let end = start + first_char(&text[start..]);
            marked.push_str(&text[done..end]);
            marked.push(self.mark);
            done = end;
        }
        marked.push_str(&text[done..]);
        marked.into()
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text, &[]).into_owned()),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (self.text(key, &[]).into_owned(), self.value(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

/// The text without its marks, and the places of the characters before them.
fn without_marks(rendered: &str, mark: char) -> (String, Vec<usize>) {
    let (mut text, mut literal) = (String::with_capacity(rendered.len()), Vec::new());
    for piece in rendered.split(mark) {
        literal.extend(text.char_indices().next_back().map(|(last, _)| last));
        text.push_str(piece);
    }
    (text, literal)
}
