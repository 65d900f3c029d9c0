//! Messages with headers, as gpt-oss writes them: `<|channel|>analysis<|message|>` … `<|end|><|start|>assistant` ….
//!
//! A header has the role, the channel (`analysis` for thoughts, `commentary` for calls and announcements, `final` for
//! the answer), the recipient (`to=functions.NAME` for a call) and the type of the content. Muse writes headers without
//! channels: `to=self` for thoughts, `to=user` for the answer.

use std::sync::Arc;

use super::calls::{call_of, read_calls};
use super::pending::{Marker, Pending};
use super::streamed::{Begun, Heads, Streamed};
use super::{AnswerPlace, CallReader, Out, PartKind, Read, ToolCall};
use crate::text::Tokenizer;

pub(super) const CHANNEL: &str = "<|channel|>";
const START: &str = "<|start|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";
const ENDS: [&str; 2] = ["<|end|>", "<|eom|>"];

/// The texts of the markers.
pub(super) const MARKERS: [&str; 6] = [START, CHANNEL, MESSAGE, CONSTRAIN, ENDS[0], ENDS[1]];

/// Longest header in bytes: a role, a recipient, a channel and a type.
const LONGEST_HEADER: usize = 256;

/// Words that name the type of a message's content.
const TYPES: [&str; 3] = ["json", "code", "text"];

/// The markers of a model.
#[derive(Clone, Debug)]
pub(super) struct Harmony {
    start: Marker,
    channel: Marker,
    message: Marker,
    ends: Vec<Marker>,
    /// Reads calls in the model's form.
    reader: Option<Arc<dyn CallReader>>,
}

impl Harmony {
    /// The markers, if the template writes messages with headers, or the vocabulary has them all.
    pub(super) fn of(tokenizer: &Tokenizer, template: &str) -> Option<Harmony> {
        let marker = |text: &str| Marker::new(text, tokenizer);
        let (start, channel, message) = (marker(START), marker(CHANNEL), marker(MESSAGE));
        let in_template = template.contains(START) && template.contains(MESSAGE);
        let in_vocabulary = [&start, &channel, &message].iter().all(|marker| marker.is_in_vocabulary());
        let known = |text: &&&str| template.contains(**text) || marker(text).is_in_vocabulary();
        let ends = ENDS.iter().filter(known).map(|text| marker(text)).collect();
        (in_template || in_vocabulary).then_some(Harmony { start, channel, message, ends, reader: None })
    }

    pub(super) fn with_calls(&self, reader: Arc<dyn CallReader>) -> Harmony {
        Harmony { reader: Some(reader), ..self.clone() }
    }

    /// Bytes of the pending text before what may be the beginning of a marker.
    fn before_end(&self, pending: &Pending) -> usize {
        let enders = self.ends.iter().chain([&self.start]);
        enders.filter_map(|end| pending.begun(end, |_| true)).min().unwrap_or(pending.text().len())
    }

    /// The calls of a message to a recipient, whose body begins at byte `body`.
    fn calls(&self, recipient: &str, message: &str, body: usize) -> Vec<ToolCall> {
        let written = &message[body..];
        let begun = message.trim_start();
        let begun =
            begun.strip_prefix(START).and_then(|header| header.strip_prefix("assistant")).unwrap_or(begun);
        let in_form = self.reader.as_ref().map(|reader| reader.read(begun));
        match (in_form, read_calls(written)) {
            (Some(Read::Calls(calls)), _) => calls,
            (_, calls) if !calls.is_empty() && written.trim_start().starts_with('<') => {
                self.reader.as_ref().map_or(calls.clone(), |reader| reader.retyped(calls))
            }
            _ => call_of(recipient, written).into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// In a header, of which the prompt gave the beginning.
    Header(String),
    /// After a message: only a header can follow.
    Between,
    /// In the thoughts or in the text of a message.
    Body(PartKind),
    /// In a call of this recipient, whose header is still pending up to this byte.
    Call(String, usize),
    /// In text without a header.
    Outside,
}

/// The parser of messages with headers.
#[derive(Clone, Debug)]
pub(super) struct HarmonyParser {
    harmony: Arc<Harmony>,
    state: State,
    /// Bytes of the pending text that were searched for the end of a call.
    searched: usize,
    /// Gives calls piece by piece.
    pub(super) streamed: Option<Streamed>,
}

/// The beginning of a call after its header, which ends at byte `body`.
struct HeaderHead<'h> {
    harmony: &'h Harmony,
    recipient: &'h str,
    body: usize,
}

impl Heads for HeaderHead<'_> {
    fn arguments_begin(&self, rest: &str, n: usize) -> Begun {
        let Some(written) = rest.get(self.body..).filter(|_| n == 0) else { return Begun::Never };
        match written.trim_start() {
            "" => Begun::Later,
            object if object.starts_with('{') => Begun::At(rest.len() - object.len()),
            _ => Begun::Never,
        }
    }

    fn call(&self, head: &str, _n: usize) -> Option<ToolCall> {
        let calls = self.harmony.calls(self.recipient, &format!("{head}{{}}"), self.body);
        calls.into_iter().next()
    }
}

/// The contents of a header.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    Part(PartKind),
    Call(String),
}

impl HarmonyParser {
    /// A parser for the answer to a prompt that ends with `tail`: usually in a header, after its role.
    pub(super) fn new(harmony: Arc<Harmony>, tail: &str) -> HarmonyParser {
        let header = tail.rfind(START).map(|at| &tail[at + START.len()..]);
        let state = match header.map(|header| (header, header.find(MESSAGE))) {
            None => State::Outside,
            Some((header, None)) => State::Header(header.to_owned()),
            Some((header, Some(at))) => match read_header(&header[..at]) {
                Some(Header::Part(kind)) if !ENDS.iter().any(|end| header[at..].contains(end)) => {
                    State::Body(kind)
                }
                _ => State::Outside,
            },
        };
        HarmonyParser { harmony, state, searched: 0, streamed: None }
    }

    pub(super) fn place(&self) -> AnswerPlace {
        match &self.state {
            State::Body(PartKind::Thoughts) => AnswerPlace::Thoughts,
            State::Body(_) | State::Outside => AnswerPlace::Text,
            State::Header(_) | State::Between | State::Call(..) => AnswerPlace::Markup,
        }
    }

    /// The markers that end the thoughts of this place. A header that may be a call's is left to the model.
    pub(super) fn thoughts_end(&self) -> Option<String> {
        let is_thoughts = self.state == State::Body(PartKind::Thoughts);
        let end = self.harmony.ends.first().filter(|_| is_thoughts)?;
        let header = format!("{}{START}assistant", end.text);
        Some(match &self.harmony.reader {
            Some(_) => header,
            None if end.text == ENDS[0] => format!("{header}{CHANNEL}final{MESSAGE}"),
            None => format!("{header} to=user{MESSAGE}"),
        })
    }

    /// Divides the pending text as far as it is certain; at the end of the answer, all of it.
    pub(super) fn run(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) {
        while match self.state.clone() {
            State::Header(begun) => self.header(&begun, pending, out, ends),
            State::Between => self.between(pending, out, ends),
            State::Body(kind) => self.body(kind, pending, out, ends),
            State::Call(recipient, body) => self.call(&recipient, body, pending, out, ends),
            State::Outside => self.outside(pending, out, ends),
        } {}
    }

    /// In a header. True if it ended, or is none.
    fn header(&mut self, begun: &str, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let harmony = Arc::clone(&self.harmony);
        if !begun.is_empty() && pending.find(&harmony.start, 0, |at| at == 0).is_some() {
            // The model writes the header that the prompt has begun once more.
            self.state = State::Header(String::new());
            return true;
        }
        if let Some(at) = pending.find(&harmony.message, 0, |_| true) {
            let len = at + harmony.message.text.len();
            let header = &pending.text()[..at];
            let read =
                may_be_header(begun, header).then(|| read_header(&format!("{begun}{header}"))).flatten();
            match read {
                Some(Header::Part(kind)) => {
                    out.close();
                    let (raw, _) = pending.take(len);
                    out.add(kind, &raw, "");
                    self.state = State::Body(kind);
                }
                Some(Header::Call(recipient)) => {
                    self.searched = len;
                    self.state = State::Call(recipient, len);
                }
                None => self.is_no_header(pending, out),
            }
            return true;
        }
        let text = pending.text();
        if text.is_empty() || (!ends && may_be_header(begun, text)) {
            return false;
        }
        self.is_no_header(pending, out);
        true
    }

    /// Goes on in text: the first marker or character was no header's.
    fn is_no_header(&mut self, pending: &mut Pending, out: &mut Out) {
        let first = pending.first_unit();
        let (raw, text) = pending.take(first);
        out.add(PartKind::Text, &raw, &text);
        self.state = State::Outside;
    }

    /// After a message. True if something follows.
    fn between(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let harmony = Arc::clone(&self.harmony);
        let space = pending.leading_space();
        for marker in [&harmony.start, &harmony.channel] {
            if pending.find(marker, 0, |at| at == space).is_some() {
                let (raw, _) = pending.take(space);
                out.add_markup(PartKind::Text, &raw);
                self.state = State::Header(String::new());
                return true;
            }
            if !ends && pending.begun(marker, |at| at == space).is_some() {
                return false;
            }
        }
        let is_space = space == pending.text().len();
        if is_space && (!ends || space == 0) {
            return false;
        }
        out.close();
        self.state = State::Outside;
        true
    }

    /// In the thoughts or the text of a message. True if the message ended.
    fn body(&mut self, kind: PartKind, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let harmony = Arc::clone(&self.harmony);
        // A new header ends a message too.
        let enders = harmony.ends.iter().chain([&harmony.start, &harmony.channel]);
        let found =
            enders.clone().filter_map(|end| Some((pending.find(end, 0, |_| true)?, end))).min_by_key(|f| f.0);
        let Some((at, end)) = found else {
            let all = pending.text().len();
            let begun = enders.filter_map(|end| pending.begun(end, |_| true)).min().filter(|_| !ends);
            let (raw, text) = pending.take(begun.unwrap_or(all));
            out.add(kind, &raw, &text);
            return false;
        };
        let (raw, text) = pending.take(at);
        out.add(kind, &raw, &text);
        if harmony.ends.iter().any(|marker| marker.text == end.text) {
            let (raw, _) = pending.take(end.text.len());
            out.add_markup(kind, &raw);
        }
        self.state = State::Between;
        true
    }

    /// In a call, whose header and body are pending. True if it ended.
    fn call(
        &mut self,
        recipient: &str,
        body: usize,
        pending: &mut Pending,
        out: &mut Out,
        ends: bool,
    ) -> bool {
        let harmony = Arc::clone(&self.harmony);
        let enders = harmony.ends.iter().chain([&harmony.start]);
        let from = |end: &Marker| self.searched.saturating_sub(end.text.len()).max(body);
        let found =
            enders.filter_map(|end| Some((pending.find(end, from(end), |_| true)?, end))).min_by_key(|f| f.0);
        self.searched = pending.text().len();
        let (body_end, whole) = match found {
            Some((at, end)) if end.text == START => (at, at),
            Some((at, end)) => (at, at + end.text.len()),
            None if ends => (pending.text().len(), pending.text().len()),
            None => {
                if let Some(streamed) = &mut self.streamed {
                    let certain = harmony.before_end(pending);
                    let head = HeaderHead { harmony: &harmony, recipient, body };
                    streamed.advance(&pending.text()[..certain], &head, out);
                }
                return false;
            }
        };
        let written = pending.text()[body..body_end].to_owned();
        let mut calls = harmony.calls(recipient, &pending.text()[..body_end], body);
        if let Some(streamed) = &mut self.streamed {
            streamed.advance(
                &pending.text()[..body_end],
                &HeaderHead { harmony: &harmony, recipient, body },
                out,
            );
            calls = streamed.end(calls, out);
        } else {
            out.close();
        }
        let (raw, text) = pending.take(whole);
        if calls.is_empty() {
            out.close();
            out.add(PartKind::Text, &raw, &text);
        } else {
            out.add_calls(PartKind::ToolCall, &raw, &written, calls);
        }
        self.state = State::Between;
        found.is_some()
    }

    /// In text without a header. True if a header begins.
    fn outside(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let harmony = Arc::clone(&self.harmony);
        let starts = [&harmony.start, &harmony.channel];
        let found = starts.iter().filter_map(|start| pending.find(start, 0, |_| true)).min();
        let begun =
            || starts.iter().filter_map(|start| pending.begun(start, |_| true)).min().filter(|_| !ends);
        let text_end = found.or_else(begun).unwrap_or(pending.text().len());
        let (raw, text) = pending.take(text_end);
        out.add(PartKind::Text, &raw, &text);
        if found.is_some() {
            self.state = State::Header(String::new());
        }
        found.is_some()
    }
}

/// True if a header may begin so, of which `begun` is in the prompt.
fn may_be_header(begun: &str, text: &str) -> bool {
    let whole = format!("{begun}{text}");
    let rest = whole.strip_prefix(START).unwrap_or(&whole).trim_start();
    let goes_on = |rest: &str| {
        let rest = rest.trim_start();
        rest.is_empty()
            || ["to=", START, CHANNEL, CONSTRAIN, MESSAGE]
                .iter()
                .any(|next| rest.starts_with(next) || next.starts_with(rest))
    };
    let role = "assistant";
    let begins = START.starts_with(whole.as_str()) || role.starts_with(rest) || goes_on(rest);
    (begins || rest.strip_prefix(role).is_some_and(goes_on))
        && whole.len() <= LONGEST_HEADER
        && !whole.contains('\n')
}

/// Reads a header, from its role to `<|message|>`; `None` if it is none.
fn read_header(text: &str) -> Option<Header> {
    let text = text.strip_prefix(START).unwrap_or(text);
    if text.len() > LONGEST_HEADER {
        return None;
    }
    // The markers become words of their own.
    let spaced = text.replace(CHANNEL, " <|channel|> ").replace(CONSTRAIN, " <|constrain|> ");
    let mut words = spaced.split_whitespace().peekable();
    words.next_if_eq(&"assistant");
    let (mut channel, mut recipient) = (None, None);
    while let Some(word) = words.next() {
        if let Some(to) = word.strip_prefix("to=").filter(|to| !to.is_empty() && recipient.is_none()) {
            recipient = Some(to);
        } else if word == CHANNEL && channel.is_none() {
            channel = Some(words.next()?);
        } else if word == CONSTRAIN {
            words.next().filter(|word| TYPES.contains(word))?;
        } else if !TYPES.contains(&word) {
            return None;
        }
    }
    match (channel, recipient) {
        (Some("analysis"), None) | (None, Some("self")) => Some(Header::Part(PartKind::Thoughts)),
        (Some("commentary" | "final"), None) | (None | Some("final"), Some("user")) => {
            Some(Header::Part(PartKind::Text))
        }
        (Some("analysis" | "commentary") | None, Some(recipient)) => Some(Header::Call(recipient.to_owned())),
        _ => None,
    }
}
