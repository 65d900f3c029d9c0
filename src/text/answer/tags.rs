//! Parts between two markers, such as `<think>` … `</think>`.

use std::sync::Arc;

use super::calls::read_calls;
use super::pending::{Marker, Pending};
use super::rows::{ANSWER_MARKERS, MarkerRole};
use super::streamed::{Begun, Heads, Streamed};
use super::{AnswerPlace, CallReader, Out, PartKind, Read, ToolCall};
use crate::text::Tokenizer;

/// The markers of a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags {
    pairs: Vec<Pair>,
    /// Reads calls in the model's form.
    reader: Option<Arc<dyn CallReader>>,
}

#[derive(Clone, Debug)]
struct Pair {
    open: Marker,
    close: Option<Marker>,
    role: MarkerRole,
}

impl Tags {
    /// The pairs that the template or the vocabulary has; `None` without thoughts and tool calls.
    pub(super) fn of(tokenizer: &Tokenizer, template: &str) -> Option<Tags> {
        let mut pairs = Vec::new();
        for row in ANSWER_MARKERS {
            let marker = |text: &str| {
                let marker = Marker::new(text, tokenizer);
                (is_in_template(template, text) || marker.is_in_vocabulary()).then_some(marker)
            };
            let Some(open) = marker(row.open) else { continue };
            let close = row.close.map(marker);
            if close.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            pairs.push(Pair { open, close: close.flatten(), role: row.role });
        }
        let divides = pairs.iter().any(|pair| pair.role != MarkerRole::Text);
        divides.then_some(Tags { pairs, reader: None })
    }

    /// The markers with those of a reader.
    pub(super) fn with_calls(mut self, reader: Arc<dyn CallReader>, tokenizer: &Tokenizer) -> Tags {
        let (open, close) = reader.markers();
        if !open.is_empty() && !self.pairs.iter().any(|pair| pair.open.text == open) {
            let (open, close) =
                (Marker::new(open, tokenizer), close.map(|text| Marker::new(text, tokenizer)));
            self.pairs.push(Pair { open, close, role: MarkerRole::ToolCall });
        }
        self.reader = Some(reader);
        self
    }

    /// The calls in a text between markers, which `body` is without.
    fn calls(&self, written: &str, body: &str) -> Read {
        let lenient = || match read_calls(body) {
            calls if calls.is_empty() => None,
            calls => Some(calls),
        };
        let Some(reader) = &self.reader else {
            return lenient().map_or(Read::Other, Read::Calls);
        };
        let retyped = |calls: Vec<ToolCall>| Read::Calls(reader.retyped(calls));
        if reader.is_json()
            && let Some(calls) = lenient()
        {
            return retyped(calls);
        }
        match reader.read(written) {
            Read::Calls(calls) => Read::Calls(calls),
            other => lenient().map_or(other, retyped),
        }
    }

    /// True if this marker opens calls.
    pub(super) fn opens_calls(&self, open: &str) -> bool {
        self.pairs.iter().any(|pair| pair.role == MarkerRole::ToolCall && pair.open.text == open)
    }

    /// The first marker of thoughts.
    pub(super) fn thoughts_open(&self) -> Option<&str> {
        self.thoughts().next().map(|(_, pair)| pair.open.text.as_str())
    }

    fn thoughts(&self) -> impl Iterator<Item = (usize, &Pair)> {
        self.pairs.iter().enumerate().filter(|(_, pair)| pair.role == MarkerRole::Thoughts)
    }
}

/// Most bytes of white space that wait for the next marker: a model may write line ends without end.
const MOST_SPACE: usize = 256;

/// True if a template writes the marker: as a whole or, where it has several, from its pieces (`<|open|>`, `think`,
/// `<|sep|>`).
fn is_in_template(template: &str, marker: &str) -> bool {
    let pieces = marker.split_inclusive('>').flat_map(|piece| match piece.find('<') {
        Some(at) if piece.contains('｜') => piece[at..].split('｜').collect::<Vec<_>>(),
        Some(at) => vec![&piece[..at], &piece[at..]],
        None => vec![piece],
    });
    let pieces: Vec<&str> = pieces.filter(|piece| piece.contains(char::is_alphanumeric)).collect();
    let has = |piece: &&str| template.contains(piece.trim_end_matches('>'));
    template.contains(marker) || (pieces.len() > 1 && pieces.iter().all(has))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first part, or between two: nothing but white space came.
    Between,
    /// In the thoughts of a pair.
    Thoughts(usize),
    Text,
    /// In the call of a pair, whose opening marker is still pending.
    Call(usize),
}

/// The parser of parts between two markers.
#[derive(Clone, Debug)]
pub(super) struct TagsParser {
    tags: Arc<Tags>,
    state: State,
    /// Thoughts, a call or a marker came before: white space belongs to it.
    follows: bool,
    /// The start of an answer that is a text came: calls need a marker.
    is_text: bool,
    /// The part has had nothing but white space.
    fresh: bool,
    /// The pair around the text whose opening marker came.
    around: Option<usize>,
    /// The text ends with a line end, or has not begun.
    at_line_start: bool,
    /// Bytes of the pending text that were searched for the end of a call.
    searched: usize,
    /// Gives calls piece by piece.
    pub(super) streamed: Option<Streamed>,
}

/// The beginnings of calls between two markers, which may be empty.
struct TagHeads<'t> {
    tags: &'t Tags,
    open: &'t str,
    close: &'t str,
}

impl Heads for TagHeads<'_> {
    fn arguments_begin(&self, rest: &str, n: usize) -> Begun {
        self.tags.reader.as_ref().map_or(Begun::Never, |reader| reader.arguments_begin(rest, n == 0))
    }

    fn call(&self, head: &str, n: usize) -> Option<ToolCall> {
        let body = format!("{head}{{}}{}", self.tags.reader.as_ref()?.tail()?);
        // The tail of a form may have the closing marker.
        let body = body.trim_end().strip_suffix(self.close).unwrap_or(&body);
        let written = format!("{body}{}", self.close);
        match self.tags.calls(&written, body.get(self.open.len()..)?.trim()) {
            Read::Calls(mut calls) if calls.len() == n + 1 => calls.pop(),
            _ => None,
        }
    }
}

/// A marker in the pending text.
struct Found {
    at: usize,
    len: usize,
    pair: usize,
    opens: bool,
}

impl TagsParser {
    /// A parser for the answer to a prompt that ends with `tail`.
    pub(super) fn new(tags: Arc<Tags>, tail: &str) -> TagsParser {
        let tail = tail.trim_end();
        let opened =
            tags.thoughts().find(|(_, pair)| tail.ends_with(&pair.open.text)).map(|(index, _)| index);
        let closes = |pair: &Pair| pair.close.as_ref().is_some_and(|close| tail.ends_with(&close.text));
        let closed = tags.thoughts().any(|(_, pair)| closes(pair));
        TagsParser {
            state: opened.map_or(State::Between, State::Thoughts),
            tags,
            follows: closed,
            is_text: false,
            fresh: true,
            around: None,
            at_line_start: true,
            searched: 0,
            streamed: None,
        }
    }

    pub(super) fn place(&self) -> AnswerPlace {
        match self.state {
            State::Between if !self.follows && self.tags.thoughts().next().is_some() => AnswerPlace::Start,
            State::Between | State::Text => AnswerPlace::Text,
            State::Thoughts(_) => AnswerPlace::Thoughts,
            State::Call(_) => AnswerPlace::Markup,
        }
    }

    /// The marker that ends the thoughts of this place.
    pub(super) fn thoughts_end(&self) -> Option<String> {
        let State::Thoughts(pair) = self.state else { return None };
        self.tags.pairs[pair].close.as_ref().map(|close| close.text.clone())
    }

    /// Divides the pending text as far as it is certain; at the end of the answer, all of it.
    pub(super) fn run(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) {
        while match self.state {
            State::Between | State::Text => self.text(pending, out, ends),
            State::Thoughts(pair) => self.thoughts(pair, pending, out, ends),
            State::Call(pair) => self.call(pair, pending, out, ends),
        } {}
    }

    /// Between parts or in the text. True if the state changed.
    fn text(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        if self.state == State::Between
            && let Some(changed) = self.unmarked(pending, out, ends)
        {
            return changed;
        }
        if let Some(found) = self.next_marker(pending) {
            self.give_text(found.at, true, pending, out);
            self.enter(&found, pending, out);
            return true;
        }
        let all = pending.text().len();
        let certain = if ends { all } else { self.begun(pending).unwrap_or(all) };
        self.give_text(certain, ends, pending, out);
        false
    }

    /// At the beginning of an answer whose calls have no marker. `None` if it is to be read as others are; false if that
    /// is not certain yet.
    fn unmarked(&mut self, pending: &mut Pending, out: &mut Out, ends: bool) -> Option<bool> {
        let tags = Arc::clone(&self.tags);
        let reader = tags.reader.as_ref().filter(|_| !self.is_text)?;
        let text = pending.text().trim_start();
        if text.is_empty() {
            return None;
        }
        let lead = reader.text_lead();
        let space = pending.leading_space();
        if !lead.is_empty() {
            if text.starts_with(lead) {
                let (raw, _) = pending.take(space + lead.len());
                out.add_markup(PartKind::Text, &raw);
                (self.follows, self.is_text, self.at_line_start) = (true, true, true);
                return Some(true);
            }
            if !ends && lead.starts_with(text) {
                return Some(false);
            }
        }
        let has_begun = self.streamed.as_ref().is_some_and(Streamed::has_begun);
        if !has_begun && !reader.may_begin(text) {
            return None;
        }
        if let Some(streamed) = &mut self.streamed {
            streamed.advance(text, &TagHeads { tags: &tags, open: "", close: "" }, out);
        }
        if !ends {
            return Some(false);
        }
        let written = text.trim_end().to_owned();
        let calls = self.ended(tags.calls(&written, &written), out)?;
        let (raw, _) = pending.take(pending.text().len());
        out.add_calls(PartKind::ToolCall, &raw, &written, calls);
        (self.follows, self.fresh) = (true, true);
        Some(true)
    }

    /// The calls of a text that has ended, in a part of their own; `None` if it is not a call.
    fn ended(&mut self, read: Read, out: &mut Out) -> Option<Vec<ToolCall>> {
        let calls = if let Read::Calls(calls) = read { calls } else { Vec::new() };
        let calls = match &mut self.streamed {
            Some(streamed) => streamed.end(calls, out),
            None => calls,
        };
        if calls.is_empty() {
            return None;
        }
        if self.streamed.is_none() {
            out.close();
        }
        Some(calls)
    }

    /// Gives the first `n` pending bytes as text, without white space that belongs to markers. `is_end` if a marker or
    /// the answer's end follows.
    fn give_text(&mut self, n: usize, is_end: bool, pending: &mut Pending, out: &mut Out) {
        let mut left = n;
        if self.state == State::Between {
            let space = pending.leading_space().min(n);
            let marker_follows = is_end && n < pending.text().len();
            if self.follows || (space == n && marker_follows) {
                let (raw, _) = pending.take(space);
                out.add_markup(PartKind::Text, &raw);
                left -= space;
            }
            // White space alone decides nothing yet.
            if left == 0 || (space == n && !is_end && n <= MOST_SPACE) {
                return;
            }
            self.state = State::Text;
        }
        let text = &pending.text()[..left];
        let kept = text.trim_end().len();
        let kept = if left - kept > MOST_SPACE { left } else { kept };
        let marker_follows = is_end && left < pending.text().len();
        let (kept, space) = match (is_end, marker_follows) {
            (false, _) => (kept, 0),
            (true, true) => (kept, left - kept),
            (true, false) => (left, 0),
        };
        self.give(PartKind::Text, kept, pending, out);
        let (raw, _) = pending.take(space);
        out.add_markup(PartKind::Text, &raw);
    }

    fn give(&mut self, kind: PartKind, n: usize, pending: &mut Pending, out: &mut Out) {
        let (raw, text) = pending.take(n);
        if let Some(last) = raw.chars().next_back() {
            self.at_line_start = last == '\n';
        }
        out.add(kind, &raw, &text);
    }

    /// The first marker in the pending text that may stand where it does.
    fn next_marker(&self, pending: &Pending) -> Option<Found> {
        let mut first: Option<Found> = None;
        let mut offer = |found: Found| {
            let better = |best: &Found| {
                (found.at, std::cmp::Reverse(found.len)) < (best.at, std::cmp::Reverse(best.len))
            };
            if first.as_ref().is_none_or(better) {
                first = Some(found);
            }
        };
        for (pair, Pair { open, close, role }) in self.tags.pairs.iter().enumerate() {
            if let Some(at) = pending.find(open, 0, |at| self.may_open(open, *role, at, pending)) {
                offer(Found { at, len: open.text.len(), pair, opens: true });
            }
            if let Some(close) = close.as_ref().filter(|_| self.around == Some(pair))
                && let Some(at) = pending.find(close, 0, |_| true)
            {
                offer(Found { at, len: close.text.len(), pair, opens: false });
            }
            if let Some(close) = close.as_ref().filter(|_| self.may_close_nothing(*role))
                && let Some(at) = pending.find(close, 0, |at| at == pending.leading_space())
            {
                offer(Found { at, len: close.text.len(), pair, opens: false });
            }
        }
        first
    }

    /// The first place at which a marker may have begun, or white space before one.
    fn begun(&self, pending: &Pending) -> Option<usize> {
        let mut first = None;
        for (pair, Pair { open, close, role }) in self.tags.pairs.iter().enumerate() {
            let opening = pending.begun(open, |at| self.may_open(open, *role, at, pending));
            let closing = close.as_ref().filter(|_| self.around == Some(pair));
            let closing = closing.and_then(|close| pending.begun(close, |_| true));
            let nothing = close.as_ref().filter(|_| self.may_close_nothing(*role));
            let nothing = nothing.and_then(|close| pending.begun(close, |at| at == pending.leading_space()));
            first = first.into_iter().chain(opening).chain(closing).chain(nothing).min();
        }
        first
    }

    /// True if an answer may begin with the end of thoughts, as those of models do that do not think this time.
    fn may_close_nothing(&self, role: MarkerRole) -> bool {
        role == MarkerRole::Thoughts && self.state == State::Between && !self.follows
    }

    /// True if an opening marker may stand at this place of the pending text. One that is a special token may stand
    /// anywhere. A plain one could be the answer's text: thoughts begin the answer, and a call begins a line.
    fn may_open(&self, open: &Marker, role: MarkerRole, at: usize, pending: &Pending) -> bool {
        let before = &pending.text()[..at];
        let is_first = self.state == State::Between && before.trim_start().is_empty();
        let starts_line = || before.chars().next_back().map_or(self.at_line_start, |c| c == '\n');
        !open.is_plain() || is_first || (role == MarkerRole::ToolCall && starts_line())
    }

    /// Goes on after a marker in the text, which is at the start of the pending text.
    fn enter(&mut self, found: &Found, pending: &mut Pending, out: &mut Out) {
        let pair = found.pair;
        let role = self.tags.pairs[pair].role;
        self.fresh = true;
        match (role, found.opens) {
            (MarkerRole::Thoughts, false) => {
                let (raw, _) = pending.take(found.len);
                out.add_markup(PartKind::Text, &raw);
                (self.follows, self.at_line_start) = (true, true);
            }
            (MarkerRole::Thoughts, true) => {
                out.close();
                let (raw, _) = pending.take(found.len);
                out.add(PartKind::Thoughts, &raw, "");
                self.state = State::Thoughts(pair);
            }
            (MarkerRole::ToolCall, _) => {
                // Its end shows if it is one.
                self.searched = found.len;
                self.state = State::Call(pair);
            }
            (MarkerRole::Text, opens) => {
                let (raw, _) = pending.take(found.len);
                out.add_markup(PartKind::Text, &raw);
                self.around = opens.then_some(pair);
                self.state = State::Between;
                self.follows = true;
            }
        }
    }

    /// In the thoughts of a pair. True if they ended.
    fn thoughts(&mut self, pair: usize, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let tags = Arc::clone(&self.tags);
        let Pair { open, close, .. } = &tags.pairs[pair];
        while self.fresh {
            let space = pending.leading_space();
            // Some models open the thoughts that the prompt has opened.
            let again = pending.find(open, 0, |at| at == space).map(|at| at + open.text.len());
            if again.is_none() && !ends && pending.begun(open, |at| at == space).is_some() {
                return false;
            }
            let (raw, _) = pending.take(again.unwrap_or(space));
            out.add(PartKind::Thoughts, &raw, "");
            if pending.text().is_empty() {
                return false;
            }
            self.fresh = again.is_some();
        }
        let found =
            close.as_ref().and_then(|close| Some((pending.find(close, 0, |_| true)?, close.text.len())));
        let all = pending.text().len();
        let Some((at, len)) = found else {
            let begun = close.as_ref().and_then(|close| pending.begun(close, |_| true));
            let most = begun.unwrap_or(all);
            let kept = pending.text()[..most].trim_end().len();
            let certain = if ends {
                all
            } else if most - kept > MOST_SPACE {
                most
            } else {
                kept
            };
            self.give(PartKind::Thoughts, certain, pending, out);
            return false;
        };
        let kept = pending.text()[..at].trim_end().len();
        self.give(PartKind::Thoughts, kept, pending, out);
        let (raw, _) = pending.take(at - kept + len);
        out.add(PartKind::Thoughts, &raw, "");
        let close = close.as_ref().map(|close| close.text.as_str());
        let text_opens =
            |pair: &Pair| pair.role == MarkerRole::Text && Some(pair.open.text.as_str()) == close;
        self.around = tags.pairs.iter().position(text_opens);
        (self.state, self.follows, self.at_line_start) = (State::Between, true, true);
        true
    }

    /// Gives what is certain of the calls in a text that begins with their marker.
    fn stream(&mut self, open: &Marker, close: Option<&Marker>, text: &str, out: &mut Out) {
        let Some(streamed) = &mut self.streamed else { return };
        let close = close.map_or("", |close| close.text.as_str());
        streamed.advance(text, &TagHeads { tags: &self.tags, open: &open.text, close }, out);
    }

    /// In a call, whose opening marker begins the pending text. True if it ended.
    fn call(&mut self, pair: usize, pending: &mut Pending, out: &mut Out, ends: bool) -> bool {
        let tags = Arc::clone(&self.tags);
        let Pair { open, close, .. } = &tags.pairs[pair];
        // A call without an end goes on to the next one.
        let end = close.as_ref().unwrap_or(open);
        let mut from = self.searched.saturating_sub(end.text.len()).max(open.text.len());
        self.searched = pending.text().len();
        let (found, whole, body, read) = loop {
            let found = pending.find(end, from, |_| true);
            let (body_end, whole) = match found {
                Some(at) => (at, at + close.as_ref().map_or(0, |close| close.text.len())),
                None if ends => (pending.text().len(), pending.text().len()),
                None => {
                    self.stream(open, close.as_ref(), pending.text(), out);
                    return false;
                }
            };
            let body = pending.text()[open.text.len()..body_end].trim().to_owned();
            let read = tags.calls(&pending.text()[..whole], &body);
            // The marker was a part of an argument.
            match (found, &read) {
                (Some(at), Read::Cut) => from = at + end.text.len(),
                _ => break (found, whole, body, read),
            }
        };
        self.stream(open, close.as_ref(), &pending.text()[..whole], out);
        if let Some(calls) = self.ended(read, out) {
            let (raw, _) = pending.take(whole);
            out.add_calls(PartKind::ToolCall, &raw, &body, calls);
            (self.state, self.follows) = (State::Between, true);
        } else {
            self.state = State::Text;
            self.give(PartKind::Text, whole, pending, out);
        }
        self.at_line_start = true;
        self.fresh = true;
        found.is_some()
    }
}
