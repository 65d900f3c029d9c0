//! Calls of tools piece by piece, while they are still written.
//!
//! A call begins when its name is read and its arguments open an object in JSON; from there on the object's text is given
//! as it comes. A call that has begun stays one: nothing that was given is taken back, so an answer that ends inside of
//! its arguments has a call with the beginning of them. Calls in other notations, and those whose id stands after the
//! arguments, are given at their end.

use serde_json::Value;

use super::{CallPiece, Out, ToolCall};

/// The most calls between two markers that are given piece by piece: reading the name of each reads those before it.
const MOST_CALLS: usize = 64;

/// Longest text before the arguments of a call, in bytes.
const LONGEST_HEAD: usize = 1024;

/// The place at which the arguments of a call begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::text) enum Begun {
    /// At this byte.
    At(usize),
    /// Beyond the text so far.
    Later,
    /// Nowhere: the call is read at its end.
    Never,
}

/// A way to read the beginnings of calls.
pub(super) trait Heads {
    /// The beginning of the next call's arguments in the text after the arguments of the `n` calls before it.
    fn arguments_begin(&self, rest: &str, n: usize) -> Begun;
    /// Call number `n`, if a text up to its arguments is read so.
    fn call(&self, head: &str, n: usize) -> Option<ToolCall>;
}

/// The calls between two markers.
#[derive(Clone, Debug, Default)]
pub(super) struct Streamed {
    calls: Vec<Given>,
    /// Bytes of the text that were read.
    at: usize,
    state: State,
}

/// A call that has begun.
#[derive(Clone, Debug)]
struct Given {
    id: Option<String>,
    name: String,
    arguments: String,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// Before the arguments of a call.
    #[default]
    Head,
    /// In an object of JSON.
    Arguments(Object),
    /// The rest is read at its end.
    Over,
}

/// The place in an object of JSON.
#[derive(Clone, Copy, Debug, Default)]
struct Object {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Object {
    /// Bytes of the object at the beginning of a text, and whether it ends there.
    fn read(&mut self, text: &str) -> (usize, bool) {
        for (at, byte) in text.bytes().enumerate() {
            match (self.in_text, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_text = !self.in_text,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ => {}
            }
        }
        (text.len(), false)
    }
}

impl Streamed {
    /// True if a call has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Gives what is certain of the calls in a text, which goes on from the one of the call before.
    pub(super) fn advance(&mut self, text: &str, heads: &dyn Heads, out: &mut Out) {
        loop {
            let rest = text.get(self.at..).unwrap_or_default();
            match &mut self.state {
                State::Over => return,
                State::Arguments(object) => {
                    let (len, ends) = object.read(rest);
                    let Some(call) = self.calls.last_mut() else { return };
                    if len > 0 {
                        call.arguments.push_str(&rest[..len]);
                        out.add_piece(CallPiece::Arguments(rest[..len].to_owned()));
                    }
                    self.at += len;
                    if !ends {
                        return;
                    }
                    self.state = if self.calls.len() < MOST_CALLS { State::Head } else { State::Over };
                }
                State::Head => match heads.arguments_begin(rest, self.calls.len()) {
                    Begun::Later if rest.len() <= LONGEST_HEAD => return,
                    Begun::At(at) => self.begin(&text[..self.at + at], heads, out),
                    Begun::Later | Begun::Never => self.state = State::Over,
                },
            }
        }
    }

    /// Begins the call whose arguments follow this text.
    fn begin(&mut self, head: &str, heads: &dyn Heads, out: &mut Out) {
        let Some(ToolCall { id, name, .. }) = heads.call(head, self.calls.len()) else {
            self.state = State::Over;
            return;
        };
        if self.calls.is_empty() {
            out.close();
        }
        out.add_piece(CallPiece::Begin { id: id.clone(), name: name.clone() });
        self.calls.push(Given { id, name, arguments: String::new() });
        self.at = head.len();
        self.state = State::Arguments(Object::default());
    }

    /// The calls of a text that has ended, of which these were read: those that have begun as they were given, and the
    /// others, which are given now.
    pub(super) fn end(&mut self, mut read: Vec<ToolCall>, out: &mut Out) -> Vec<ToolCall> {
        if !self.has_begun() && !read.is_empty() {
            out.close();
        }
        let given = std::mem::take(self).calls;
        read.drain(..given.len().min(read.len()));
        for call in &read {
            out.add_piece(CallPiece::Begin { id: call.id.clone(), name: call.name.clone() });
            out.add_piece(CallPiece::Arguments(call.arguments_text()));
        }
        given.into_iter().map(Given::call).chain(read).collect()
    }
}

impl Given {
    fn call(self) -> ToolCall {
        let arguments = serde_json::from_str(&self.arguments).unwrap_or(Value::String(self.arguments));
        ToolCall { id: self.id, name: self.name, arguments }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = || {
            prop::collection::vec(
                prop::sample::select(vec!["\"", "\\", "{", "}", "[", "]", "a", "é", "\n"]),
                0..6,
            )
        };
        let leaf = prop_oneof![
            text().prop_map(|pieces| Value::String(pieces.concat())),
            any::<i32>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 12, 3, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec((text(), inner), 0..3).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(key, value)| (key.concat(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        /// An object ends where its text does, wherever that is cut, and whatever its texts have in them.
        #[test]
        fn an_object_ends_at_its_last_brace(value in value(), after in "[}\" \\\\]{0,4}", cut in any::<prop::sample::Index>()) {
            let object = serde_json::json!({ "k\"": value }).to_string();
            let text = format!("{object}{after}");
            let boundaries: Vec<usize> = object.char_indices().map(|(at, _)| at).collect();
            let cut = boundaries[cut.index(boundaries.len())];
            let mut place = Object::default();
            prop_assert_eq!(place.read(&text[..cut]), (cut, false));
            prop_assert_eq!(place.read(&text[cut..]), (object.len() - cut, true));
        }
    }
}
