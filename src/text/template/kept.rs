//! Checks that a prompt has what the messages of a conversation say.
//!
//! Each text must be in the prompt. That alone proves little: a short text is often in the prompt for another reason. So a
//! second rendering gets the same conversation with a mark at the end of each text and in the name of each call, and must
//! have the marks, unless long texts that each occur once are evidence enough.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::TemplateError;
use super::conversation::Message;

/// Ends of thoughts in a message of the assistant. Templates drop the thoughts of earlier answers.
const ENDS_OF_THOUGHTS: [&str; 6] =
    ["</think>", "[/THINK]", "</seed:think>", "<|END_THINKING|>", "</thinking>", "</thought>"];

/// Most characters of a message in an error.
const EXCERPT: usize = 40;

/// The fewest bytes of a text that is in a prompt for no other reason than its message.
const EVIDENT: usize = 16;

/// The most messages that are evident: each is looked for in the whole prompt.
const MOST_EVIDENT: usize = 32;

/// The error for a message that the prompt does not have.
fn dropped(messages: &[Message], index: usize) -> TemplateError {
    let excerpt = messages[index].content.trim().chars().take(EXCERPT).collect();
    TemplateError::Dropped { role: messages[index].role.clone(), index, excerpt }
}

/// Checks that the prompt has the text of each message.
pub(super) fn check(messages: &[Message], prompt: &str) -> Result<(), TemplateError> {
    let folded = Folded { prompt, letters: OnceCell::new() };
    let mut from = 0;
    for (index, message) in messages.iter().enumerate() {
        let text = message.content.trim();
        // Texts mostly stand in the order of their messages.
        if let Some(at) = prompt[from..].find(text) {
            from += at + text.len();
            continue;
        }
        let is_assistant = message.role == "assistant" || message.role == "model";
        let ends = ENDS_OF_THOUGHTS.iter().filter(|_| is_assistant);
        let answer = ends.filter_map(|end| text.rsplit_once(end)).map(|(_, answer)| answer.trim()).next();
        let is_there = |text: &str| prompt.contains(text) || folded.has(message, text);
        if !is_there(text) && !answer.is_some_and(is_there) {
            return Err(dropped(messages, index));
        }
    }
    Ok(())
}

/// True if a template that was given lists of parts wrote such a list as Python or JSON prints it.
pub(super) fn prints_parts(messages: &[Message], prompt: &str) -> bool {
    ["'type': 'text'", "\"type\": \"text\"", "\"type\":\"text\""]
        .iter()
        .any(|part| prompt.contains(part) && !messages.iter().any(|message| message.content.contains(part)))
}

/// True if each text is long, and in the prompt once.
pub(super) fn is_evident(messages: &[Message], prompt: &str) -> bool {
    let has_calls = messages.iter().any(|message| !message.tool_calls.is_empty());
    let mut texts = messages.iter().map(|message| message.content.trim()).filter(|text| !text.is_empty());
    !has_calls
        && messages.len() <= MOST_EVIDENT
        && texts.all(|text| text.len() >= EVIDENT && prompt.matches(text).nth(1).is_none())
}

/// A conversation with marks.
pub(super) struct Marked {
    pub(super) messages: Vec<Message>,
    /// Begins each mark; the number of its message or call follows, and `x`.
    start: String,
    /// The numbers of the messages with a mark in their text.
    texts: Vec<usize>,
    /// The numbers of marks in calls.
    calls: Vec<usize>,
}

impl Marked {
    /// Marks these messages so that no mark is in `prompt`.
    pub(super) fn new(messages: &[Message], prompt: &str) -> Marked {
        let start =
            (0..).map(|n| format!("zq{n}q")).find(|start| !prompt.contains(start)).unwrap_or_default();
        let mut marked = Marked { messages: messages.to_vec(), start, texts: Vec::new(), calls: Vec::new() };
        let mut n_calls = messages.len();
        for (index, message) in marked.messages.iter_mut().enumerate() {
            if !message.content.trim().is_empty() {
                message.content += &format!(" {}{index}x", marked.start);
                marked.texts.push(index);
            }
            for call in &mut message.tool_calls {
                if let Some(serde_json::Value::String(name)) = call.pointer_mut("/function/name") {
                    *name += &format!("{}{n_calls}x", marked.start);
                    marked.calls.push(n_calls);
                    n_calls += 1;
                }
            }
        }
        marked
    }

    /// The marks of a rendering of the marked messages.
    fn found(&self, prompt: &str) -> HashSet<usize> {
        let after = prompt.split(&self.start).skip(1);
        after.filter_map(|rest| rest.split_once('x')).filter_map(|(number, _)| number.parse().ok()).collect()
    }

    /// Checks that the mark of each text is in a rendering of the marked messages. True if those of the calls are too.
    pub(super) fn check(&self, messages: &[Message], prompt: &str) -> Result<bool, TemplateError> {
        let found = self.found(prompt);
        match self.texts.iter().find(|index| !found.contains(index)) {
            Some(&index) => Err(dropped(messages, index)),
            None => Ok(self.calls.iter().all(|call| found.contains(call))),
        }
    }
}

/// A prompt, and what is left of it without the marks that JSON is written with. That is made when it is needed: a prompt may have
/// 12 MiB, and is checked for each form of the messages.
struct Folded<'p> {
    prompt: &'p str,
    letters: OnceCell<String>,
}

impl Folded<'_> {
    /// True if the prompt has the text in another writing: as a JSON string, or, of a tool's result, with other marks between,
    /// which is how templates write its JSON.
    fn has(&self, message: &Message, text: &str) -> bool {
        let json = serde_json::Value::from(text).to_string();
        self.prompt.contains(json.trim_matches('"'))
            || message.role == "tool" && self.has_letters(&letters(text))
    }

    fn has_letters(&self, wanted: &str) -> bool {
        !wanted.is_empty() && self.letters.get_or_init(|| letters(self.prompt)).contains(wanted)
    }
}

/// A text without white space and the marks that JSON is written with.
fn letters(text: &str) -> String {
    let is_mark = |character: char| character.is_ascii_whitespace() || "{}[]\"',:\\".contains(character);
    let mut letters = String::with_capacity(text.len());
    letters.extend(text.chars().filter(|&character| !is_mark(character)));
    letters
}
