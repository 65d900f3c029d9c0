//! An answer in parts: thoughts, text, tool calls.
//!
//! Models mark the parts of their answers, each family in its own way: `<think>` … `</think>`, channels, calls of tools
//! in JSON or in tags. [`AnswerFormat::of`] finds a model's markers in its chat template and its vocabulary;
//! [`AnswerParser`] divides the stream of an answer's tokens by them. The parser is a value: it needs no session, and a
//! clone goes on independently.
//!
//! No byte is lost: the `raw` texts of all deltas, one after the other, are the answer with its special tokens, and a
//! marker that does not fit, or a call that cannot be read, is text. `tags` parses parts between two markers, `harmony`
//! messages with headers; `calls` reads the calls of tools, `streamed` gives them while they are written.
//!
//! This folder knows the special tokens of a `Tokenizer`. It renders no template and knows no session.

mod calls;
mod calls_in_python;
mod calls_in_tags;
mod harmony;
mod pending;
mod rows;
mod streamed;
mod tags;

use std::sync::Arc;

use super::Tokenizer;
pub(in crate::text) use calls::{is_name, is_name_character};
pub(in crate::text) use calls_in_python::literal as python_literal;
pub(in crate::text) use calls_in_tags::braces as braces_value;
use harmony::{Harmony, HarmonyParser};
use pending::Pending;
pub use rows::{ANSWER_MARKERS, AnswerMarkers, MarkerRole};
pub(in crate::text) use streamed::Begun;
use streamed::Streamed;
use tags::{Tags, TagsParser};

/// The kind of a part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartKind {
    /// The model's reasoning before the text.
    Thoughts,
    /// Text for the user.
    Text,
    /// Calls of tools.
    ToolCall,
}

/// A tool that an answer calls.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolCall {
    /// The id that the model gave the call, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// Its arguments: usually an object; a text for tools that take one, such as an interpreter.
    pub arguments: serde_json::Value,
}

impl ToolCall {
    /// The arguments as text: JSON, unless the tool takes a text.
    pub fn arguments_text(&self) -> String {
        match &self.arguments {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// A piece of a call that is given while it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallPiece {
    /// A call begins.
    Begin {
        /// The id that the model gave the call, if any.
        id: Option<String>,
        /// The tool's name.
        name: String,
    },
    /// The next piece of the text of its arguments.
    Arguments(String),
}

/// The meaning of a text between the markers of calls.
#[derive(Debug)]
pub(in crate::text) enum Read {
    /// Whole calls.
    Calls(Vec<ToolCall>),
    /// The beginning of calls.
    Cut,
    /// No calls of this form.
    Other,
}

/// Reads the calls of a model whose form is known, and knows the tools that it may call.
pub(in crate::text) trait CallReader: std::fmt::Debug + Send + Sync {
    /// The markers before and after calls; the first is empty if there is none.
    fn markers(&self) -> (&str, Option<&str>);
    /// True if arguments are objects in JSON, which are read whatever stands around them.
    fn is_json(&self) -> bool;
    /// The start of an answer that is a text, where calls have no marker.
    fn text_lead(&self) -> &str;
    /// True if an answer that begins so may be calls without a marker.
    fn may_begin(&self, text: &str) -> bool;
    /// Reads calls with their markers.
    fn read(&self, written: &str) -> Read;
    /// The calls with texts where the tools want texts: tags do not tell `3` from `"3"`.
    fn retyped(&self, calls: Vec<ToolCall>) -> Vec<ToolCall>;
    /// The place in a text at which the arguments of its first call begin, if they are in JSON. `is_first` if no call of
    /// the same markers came before.
    fn arguments_begin(&self, written: &str, is_first: bool) -> Begun;
    /// The text after the arguments of the last call, if it is the same for each call.
    fn tail(&self) -> Option<String>;
}

/// A piece of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The part's kind.
    pub kind: PartKind,
    /// True if a part begins here.
    pub begins: bool,
    /// The text that is now final, without markers.
    pub text: String,
    /// All that the model wrote here, with markers and control tokens.
    pub raw: String,
    /// The calls of a tool-call part, which is given whole.
    pub calls: Vec<ToolCall>,
    /// Pieces of calls, if they [were asked for](AnswerParser::with_call_pieces): all of a part's calls are in them.
    pub pieces: Vec<CallPiece>,
}

/// A whole part of an answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Part {
    /// Its kind.
    pub kind: PartKind,
    /// Its text, without markers; for tool calls, as the model wrote them.
    pub text: String,
    /// The calls of a tool-call part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
    /// All that the model wrote, with markers and control tokens.
    #[serde(skip)]
    pub raw: String,
}

impl Part {
    /// Adds a delta to the parts of an answer.
    pub fn collect(parts: &mut Vec<Part>, delta: &Delta) {
        if delta.begins || parts.is_empty() {
            let (text, raw, calls) = (String::new(), String::new(), Vec::new());
            parts.push(Part { kind: delta.kind, text, calls, raw });
        }
        if let Some(part) = parts.last_mut() {
            part.text.push_str(&delta.text);
            part.raw.push_str(&delta.raw);
            part.calls.extend(delta.calls.iter().cloned());
        }
    }
}

/// The place in an answer at which its next token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerPlace {
    /// Before the first token, in a format with thoughts: they may begin, or the text.
    Start,
    /// In the model's thoughts.
    Thoughts,
    /// In markers or in a tool call.
    Markup,
    /// In the text, or where only text can follow. A constraint on the text begins at the first such place.
    Text,
}

/// A model's way to mark the parts of its answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AnswerFormat {
    family: Family,
    /// Special tokens that are markers, sorted: where they do not fit they are shown.
    markers: Arc<[u32]>,
    tokenizer: Tokenizer,
}

#[derive(Clone, Debug)]
enum Family {
    Plain,
    Tags(Arc<Tags>),
    Harmony(Arc<Harmony>),
}

impl AnswerFormat {
    /// The format of a model's answers, from the markers that its chat template and its vocabulary have.
    pub fn of(tokenizer: &Tokenizer) -> AnswerFormat {
        AnswerFormat::of_template(tokenizer, tokenizer.chat_template().unwrap_or_default())
    }

    /// [`of`](Self::of) with another chat template than the vocabulary's.
    pub fn of_template(tokenizer: &Tokenizer, template: &str) -> AnswerFormat {
        let family = if let Some(harmony) = Harmony::of(tokenizer, template) {
            Family::Harmony(Arc::new(harmony))
        } else {
            Tags::of(tokenizer, template).map_or(Family::Plain, |tags| Family::Tags(Arc::new(tags)))
        };
        AnswerFormat { family, ..AnswerFormat::plain(tokenizer) }
    }

    /// The format of answers that may call the tools of a reader.
    pub(in crate::text) fn with_calls(mut self, reader: Arc<dyn CallReader>) -> AnswerFormat {
        let (open, close) = reader.markers();
        let specials =
            std::iter::once(open).chain(close).flat_map(|text| self.tokenizer.special_tokens_in(text));
        let mut markers: Vec<u32> = self.markers.iter().copied().chain(specials.map(|(_, id)| id)).collect();
        markers.sort_unstable();
        markers.dedup();
        self.markers = markers.into();
        self.family = match self.family {
            Family::Plain => Family::Tags(Arc::new(Tags::default().with_calls(reader, &self.tokenizer))),
            Family::Tags(tags) => {
                Family::Tags(Arc::new(Tags::clone(&tags).with_calls(reader, &self.tokenizer)))
            }
            Family::Harmony(harmony) => Family::Harmony(Arc::new(harmony.with_calls(reader))),
        };
        self
    }

    /// Answers without parts: all is text. Markers of the vocabulary are shown, other control tokens are not.
    pub fn plain(tokenizer: &Tokenizer) -> AnswerFormat {
        let texts = ANSWER_MARKERS.iter().flat_map(AnswerMarkers::texts).chain(harmony::MARKERS);
        let mut markers: Vec<u32> =
            texts.flat_map(|text| tokenizer.special_tokens_in(text)).map(|(_, id)| id).collect();
        markers.sort_unstable();
        markers.dedup();
        AnswerFormat { family: Family::Plain, markers: markers.into(), tokenizer: tokenizer.clone() }
    }

    /// True if answers may have thoughts or tool calls.
    pub fn has_parts(&self) -> bool {
        !matches!(self.family, Family::Plain)
    }

    /// True if this marker opens calls.
    pub(in crate::text) fn has_marker(&self, open: &str) -> bool {
        matches!(&self.family, Family::Tags(tags) if tags.opens_calls(open))
    }

    /// True if answers are messages with headers, which name the tool that is called.
    pub(in crate::text) fn has_headers(&self) -> bool {
        matches!(self.family, Family::Harmony(_))
    }

    /// True if answers may have thoughts.
    pub fn has_thoughts(&self) -> bool {
        match &self.family {
            Family::Plain => false,
            Family::Tags(tags) => tags.thoughts_open().is_some(),
            Family::Harmony(_) => true,
        }
    }

    /// A parser for the answer to a prompt. The end of the prompt says where the answer begins: some templates open
    /// the thoughts themselves, or close them.
    pub fn parser(&self, prompt: &[u32]) -> AnswerParser {
        // Longer than the beginning of any answer in a template.
        let tail = &prompt[prompt.len().saturating_sub(64)..];
        let tail = self.tokenizer.decode(tail, true);
        let rules = match &self.family {
            Family::Plain => Rules::Plain,
            Family::Tags(tags) => Rules::Tags(TagsParser::new(Arc::clone(tags), &tail)),
            Family::Harmony(harmony) => Rules::Harmony(HarmonyParser::new(Arc::clone(harmony), &tail)),
        };
        let out = Out::default();
        let (markers, thoughts_token) = (Arc::clone(&self.markers), self.thoughts_token());
        AnswerParser { rules, pending: Pending::default(), out, markers, thoughts_token }
    }

    /// The first token of the model's thoughts, if it is a special token.
    fn thoughts_token(&self) -> Option<u32> {
        match &self.family {
            Family::Plain => None,
            Family::Tags(tags) => {
                let open = tags.thoughts_open()?;
                self.tokenizer
                    .special_tokens_in(open)
                    .first()
                    .filter(|(range, _)| range.start == 0)
                    .map(|(_, id)| *id)
            }
            Family::Harmony(_) => self.tokenizer.special_id(harmony::CHANNEL),
        }
    }
}

/// Deltas in the making.
#[derive(Clone, Debug, Default)]
struct Out {
    deltas: Vec<Delta>,
    /// The kind of the part that is open.
    part: Option<PartKind>,
}

impl Out {
    /// Closes the open part: whatever follows begins a new one.
    fn close(&mut self) {
        self.part = None;
    }

    /// Adds to the open part, or begins one.
    fn add(&mut self, kind: PartKind, raw: &str, text: &str) {
        self.add_calls(kind, raw, text, Vec::new());
    }

    fn add_calls(&mut self, kind: PartKind, raw: &str, text: &str, calls: Vec<ToolCall>) {
        if raw.is_empty() {
            return;
        }
        let begins = self.part != Some(kind);
        self.part = Some(kind);
        match self.deltas.last_mut().filter(|delta| !begins && delta.kind == kind) {
            Some(delta) => {
                delta.text.push_str(text);
                delta.raw.push_str(raw);
                delta.calls.extend(calls);
            }
            None => {
                let (text, raw, pieces) = (text.to_owned(), raw.to_owned(), Vec::new());
                self.deltas.push(Delta { kind, begins, text, raw, calls, pieces });
            }
        }
    }

    /// Adds a piece of a call to the open part, or begins one.
    fn add_piece(&mut self, piece: CallPiece) {
        let kind = PartKind::ToolCall;
        let begins = self.part != Some(kind);
        self.part = Some(kind);
        match self.deltas.last_mut().filter(|delta| !begins && delta.kind == kind) {
            Some(delta) => delta.pieces.push(piece),
            None => {
                let (text, raw, calls) = (String::new(), String::new(), Vec::new());
                self.deltas.push(Delta { kind, begins, text, raw, calls, pieces: vec![piece] });
            }
        }
    }

    /// Adds white space and markers to the part before, if there is one.
    fn add_markup(&mut self, otherwise: PartKind, raw: &str) {
        self.add(self.part.unwrap_or(otherwise), raw, "");
    }
}

#[derive(Clone, Debug)]
enum Rules {
    Plain,
    Tags(TagsParser),
    Harmony(HarmonyParser),
}

/// Divides one answer into parts, as its tokens arrive.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rfgraph::text::{AnswerFormat, PartKind};
///
/// let model = rfgraph::Model::demo()?;
/// let mut parser = AnswerFormat::of(&model.tokenizer()?).parser(&[]);
/// parser.push_text("Hello");
/// let deltas = parser.finish();
/// assert_eq!((deltas[0].kind, deltas[0].text.as_str()), (PartKind::Text, "Hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AnswerParser {
    rules: Rules,
    pending: Pending,
    out: Out,
    markers: Arc<[u32]>,
    thoughts_token: Option<u32>,
}

impl AnswerParser {
    /// Also gives the calls of tools [piece by piece](Delta::pieces), as they are written. A call is certain then as soon
    /// as its name and the beginning of its arguments are read: for answers whose calls are constrained.
    pub fn with_call_pieces(mut self) -> AnswerParser {
        match &mut self.rules {
            Rules::Plain => {}
            Rules::Tags(tags) => tags.streamed = Some(Streamed::default()),
            Rules::Harmony(harmony) => harmony.streamed = Some(Streamed::default()),
        }
        self
    }

    /// Appends text, and returns what is now final, after that of earlier calls that nobody [took](Self::take).
    pub fn push_text(&mut self, text: &str) -> &[Delta] {
        if !text.is_empty() {
            self.pending.push_text(text);
            self.run(false);
        }
        &self.out.deltas
    }

    /// Appends a special token with its text; `is_structure` if it is not a text for the user unless it is a marker.
    pub fn push_special(&mut self, id: u32, text: &str, is_structure: bool) -> &[Delta] {
        if !text.is_empty() {
            let hidden = is_structure && self.markers.binary_search(&id).is_err();
            self.pending.push_special(text, hidden);
            self.run(false);
        }
        &self.out.deltas
    }

    /// Ends the answer: what was held back is final.
    pub fn finish(&mut self) -> &[Delta] {
        self.run(true);
        &self.out.deltas
    }

    /// Takes the deltas since the last call.
    pub fn take(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.out.deltas)
    }

    /// At [`AnswerPlace::Start`], the token with which thoughts may begin, if it is a special token.
    pub fn thoughts_token(&self) -> Option<u32> {
        self.thoughts_token.filter(|_| self.place() == AnswerPlace::Start)
    }

    /// The text that ends the thoughts in which the next token stands, if they have an end.
    pub fn thoughts_end(&self) -> Option<String> {
        match &self.rules {
            Rules::Plain => None,
            Rules::Tags(tags) => tags.thoughts_end(),
            Rules::Harmony(harmony) => harmony.thoughts_end(),
        }
    }

    /// The place of the next token.
    pub fn place(&self) -> AnswerPlace {
        match &self.rules {
            Rules::Plain => AnswerPlace::Text,
            Rules::Tags(tags) => tags.place(),
            Rules::Harmony(harmony) => harmony.place(),
        }
    }

    fn run(&mut self, ends: bool) {
        match &mut self.rules {
            Rules::Plain => {
                let (raw, text) = self.pending.take(self.pending.text().len());
                self.out.add(PartKind::Text, &raw, &text);
            }
            Rules::Tags(tags) => tags.run(&mut self.pending, &mut self.out, ends),
            Rules::Harmony(harmony) => harmony.run(&mut self.pending, &mut self.out, ends),
        }
    }
}
