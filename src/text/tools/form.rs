//! The form of calls: what a model writes before, between and after the names and arguments of its calls.

/// A piece of what a model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The tool's name.
    Name,
    /// An id that the model makes up: nine letters and digits, which is what every template accepts.
    Id,
    /// The number of the call in its answer.
    Index,
    /// The name of the argument.
    Key,
    /// The name of the argument before.
    LastKey,
}

/// Pieces in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<Piece>);

/// The values of a pattern's pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'v> {
    pub(super) name: &'v str,
    pub(super) key: &'v str,
    pub(super) last_key: &'v str,
}

impl Pattern {
    pub(super) fn text(text: &str) -> Pattern {
        Pattern::of(text, &[])
    }

    /// A text in which some texts stand for other pieces.
    pub(super) fn of(text: &str, stand_ins: &[(&str, Piece)]) -> Pattern {
        let mut pieces = Vec::new();
        let mut rest = text;
        let first = |rest: &str| {
            let found = stand_ins.iter().filter_map(|(name, piece)| Some((rest.find(name)?, *name, piece)));
            found
                .min_by_key(|(at, name, _)| (*at, std::cmp::Reverse(name.len())))
                .map(|(at, name, piece)| (at, at + name.len(), piece.clone()))
        };
        while let Some((start, end, piece)) = first(rest) {
            pieces.push(Piece::Text(rest[..start].to_owned()));
            pieces.push(piece);
            rest = &rest[end..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Pattern(pieces)
    }

    /// Bytes of its texts.
    pub(super) fn len(&self) -> usize {
        let bytes = |piece: &Piece| if let Piece::Text(text) = piece { text.len() } else { 0 };
        self.0.iter().map(bytes).sum()
    }

    /// The text before the first other piece.
    pub(super) fn leading_text(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The pattern without the first `n` bytes of its leading text.
    pub(super) fn without(&self, n: usize) -> Pattern {
        let mut rest = self.clone();
        if let Some(Piece::Text(text)) = rest.0.first_mut() {
            text.drain(..n.min(text.len()));
        }
        rest.0.retain(|piece| *piece != Piece::Text(String::new()));
        rest
    }

    /// Its texts, with names and keys put in; other pieces stay.
    pub(super) fn filled(&self, values: Values<'_>) -> Pattern {
        let mut filled: Vec<Piece> = Vec::new();
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Name => values.name,
                Piece::Key => values.key,
                Piece::LastKey => values.last_key,
                Piece::Id | Piece::Index => {
                    filled.push(piece.clone());
                    continue;
                }
            };
            match filled.last_mut() {
                Some(Piece::Text(last)) => last.push_str(text),
                _ => filled.push(Piece::Text(text.to_owned())),
            }
        }
        Pattern(filled)
    }

    /// The same pattern with an [`Piece::Index`] where two texts differ by a number alone.
    pub(super) fn with_index(self, other: &Pattern) -> Option<Pattern> {
        if self.0.len() != other.0.len() {
            return None;
        }
        let mut pieces = Vec::new();
        for pair in self.0.into_iter().zip(&other.0) {
            match pair {
                (Piece::Text(one), Piece::Text(other)) if one != *other => {
                    let (before, after) = numbered(&one, other)?;
                    let parts = [Piece::Text(before), Piece::Index, Piece::Text(after)];
                    pieces.extend(parts.into_iter().filter(|part| *part != Piece::Text(String::new())));
                }
                (one, other) if one == *other => pieces.push(one),
                _ => return None,
            }
        }
        Some(Pattern(pieces))
    }
}

/// The texts before and after the number by which two texts differ.
fn numbered(one: &str, other: &str) -> Option<(String, String)> {
    let start = shared_start(one, other);
    let digits = |c: char| c.is_ascii_digit();
    let (head, tail, other_tail) = (one[..start].trim_end_matches(digits), &one[start..], &other[start..]);
    let (tail, other_tail) = (tail.trim_start_matches(digits), other_tail.trim_start_matches(digits));
    let is_number =
        one[head.len()..one.len() - tail.len()].chars().all(digits) && head.len() + tail.len() < one.len();
    (tail == other_tail && is_number).then(|| (head.to_owned(), tail.to_owned()))
}

/// Bytes of the longest beginning that two texts share.
pub(super) fn shared_start(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Bytes of the longest end that two texts share.
pub(super) fn shared_end(one: &str, other: &str) -> usize {
    one.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// The beginning of the marker (`<…>`, `[…]`) that a place in a text is inside of, or the place itself.
pub(super) fn before_marker(text: &str, at: usize) -> usize {
    let is_open = |open: char, close: char| {
        let start = text[..at].rfind(open)?;
        let (before, after) = (&text[start..at], &text[at..]);
        let end = after.find(close)?;
        // A marker has no white space and no other marker in it.
        let inside = |c: char| c.is_whitespace() || c == open;
        (!before.contains(close)
            && !before[open.len_utf8()..].contains(inside)
            && !after[..end].contains(inside))
        .then_some(start)
    };
    [('<', '>'), ('[', ']')].into_iter().filter_map(|(open, close)| is_open(open, close)).min().unwrap_or(at)
}

/// The end of the marker that a place in a text is inside of, or the place itself.
pub(super) fn after_marker(text: &str, at: usize) -> usize {
    let start = before_marker(text, at);
    if start == at {
        return at;
    }
    let close = if text[start..].starts_with('<') { '>' } else { ']' };
    text[at..].find(close).map_or(at, |end| at + end + 1)
}

/// The first marker in a text (`<tool_call>`, `[TOOL_CALLS]`).
pub(super) fn first_marker(text: &str) -> Option<&str> {
    let start = text.find(['<', '['])?;
    let close = if text[start..].starts_with('<') { '>' } else { ']' };
    let end = start + text[start..].find(close)? + 1;
    let inner = &text[start..end];
    let is_marker = inner.len() > 2 && inner.contains(char::is_alphabetic);
    if is_marker { Some(inner) } else { first_marker(&text[start + 1..]) }
}

/// The last marker in a text.
pub(super) fn last_marker(text: &str) -> Option<&str> {
    let mut last = None;
    let mut rest = text;
    while let Some(marker) = first_marker(rest) {
        let end = marker.as_ptr() as usize - rest.as_ptr() as usize + marker.len();
        (last, rest) = (Some(marker), &rest[end..]);
    }
    last
}

/// The spelling of the values of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// In JSON; other spellings of the template's (`True`, `['a']`) are read too.
    Json,
    /// A text as it is, up to what follows it.
    Raw,
    /// A text in Python's quotes, of which the pattern has the marks.
    Quoted(char),
    /// Gemma 4's lists and objects, whose texts have these marks.
    Braces(String),
    /// MiniMax M3's lists and objects, whose tags have this mark.
    Items(String),
}

/// The marks around the values of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Around {
    /// Between the key and the value.
    pub(super) before: String,
    /// After the value: its closing quotation mark.
    pub(super) after: String,
    pub(super) notation: Notation,
}

/// Kinds of JSON values, as bits.
pub(super) type Kinds = u8;

/// The kinds of values, in the order of their bits.
pub(super) const KINDS: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// The bit of a kind.
pub(super) const fn bit(kind: usize) -> Kinds {
    1 << kind
}

pub(super) const NUMBER: Kinds = bit(2);
pub(super) const STRING: Kinds = bit(3);
pub(super) const ARRAY: Kinds = bit(4);
pub(super) const OBJECT: Kinds = bit(5);
pub(super) const ALL_KINDS: Kinds = 0b11_1111;

/// The kind of a value.
pub(super) fn kind_of(value: &serde_json::Value) -> Kinds {
    use serde_json::Value;
    bit(match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    })
}

/// Arguments that are written one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members {
    /// After the name of a call without arguments.
    pub(super) none: Pattern,
    /// Before the first argument, up to its key, which is included.
    pub(super) first: Pattern,
    /// Before each other one.
    pub(super) next: Pattern,
    /// After each.
    pub(super) close: Pattern,
    /// By kind; none for kinds that cannot be written.
    pub(super) around: [Option<Around>; 6],
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// An object in JSON, after this.
    Json(Pattern),
    Members(Box<Members>),
}

/// The form of a model's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Before the first call, up to its name, which is included.
    pub(super) first: Pattern,
    /// Bytes of the leading text of `first` before the marker that opens calls.
    pub(super) lead: usize,
    /// The marker that opens calls; empty if nothing does, as in answers that are calls as a whole.
    pub(super) open: String,
    /// Between the arguments of a call and those of the next, up to its name; none if only one call can be written.
    pub(super) next: Option<Pattern>,
    pub(super) arguments: Arguments,
    /// After the last call.
    pub(super) tail: Pattern,
    /// The marker that closes calls, if any.
    pub(super) close: Option<String>,
    /// Before the text of an answer.
    pub(super) text_lead: String,
    /// After it.
    pub(super) text_tail: String,
    /// The marks around thoughts that the answer's headers mark.
    pub(super) thoughts: Option<[String; 2]>,
}
