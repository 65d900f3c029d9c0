//! An answer's content as the interfaces show it: thoughts, text, calls of tools; whole or piece by piece.

use super::ask::Replies;
use super::error::ApiError;
use crate::engine::{Event, Summary, TextEvent};
use crate::sampling::TokenLogprobs;
use crate::text::{CallPiece, Delta, PartKind, ToolCall};

/// The way in which the parts of an answer are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Thoughts apart from the text; otherwise inside it, with their markers.
    pub thoughts_apart: bool,
    /// Calls of tools as calls; otherwise as the text that the model wrote.
    pub calls_apart: bool,
}

/// The values of llama-server's `reasoning_format`, and true for those with thoughts apart from the text.
const REASONING_FORMATS: [(&str, bool); 4] =
    [("auto", true), ("none", false), ("deepseek", true), ("deepseek-legacy", true)];

/// True if thoughts stand apart from the text in this `reasoning_format`.
///
/// # Errors
/// The known formats, if it is none of them.
pub fn thoughts_apart(format: &str) -> Result<bool, String> {
    let known = REASONING_FORMATS.iter().find(|(name, _)| *name == format);
    known.map(|&(_, apart)| apart).ok_or_else(|| {
        let names = REASONING_FORMATS.map(|(name, _)| name).join(", ");
        format!("reasoning_format must be one of {names}")
    })
}

/// A piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Piece<'d> {
    Thoughts(&'d str),
    Text(&'d str),
    /// A call begins, with the model's own id if it has one.
    CallBegins(Option<&'d str>, &'d str),
    /// The next piece of the text of its arguments.
    Arguments(&'d str),
    /// A whole call, whose pieces came before.
    Call(&'d ToolCall),
}

impl View {
    /// The pieces of some deltas; none is empty.
    pub fn pieces<'d>(self, deltas: &'d [Delta]) -> Vec<Piece<'d>> {
        let mut pieces = Vec::new();
        for delta in deltas {
            match delta.kind {
                PartKind::Thoughts if self.thoughts_apart => pieces.push(Piece::Thoughts(&delta.text)),
                PartKind::Thoughts => pieces.push(Piece::Text(&delta.raw)),
                PartKind::Text => pieces.push(Piece::Text(&delta.text)),
                PartKind::ToolCall if self.calls_apart => {
                    pieces.extend(delta.pieces.iter().map(|piece| match piece {
                        CallPiece::Begin { id, name } => Piece::CallBegins(id.as_deref(), name),
                        CallPiece::Arguments(text) => Piece::Arguments(text),
                    }));
                    pieces.extend(delta.calls.iter().map(Piece::Call));
                }
                PartKind::ToolCall => pieces.push(Piece::Text(&delta.raw)),
            }
        }
        pieces.retain(|piece| !matches!(piece, Piece::Text("") | Piece::Thoughts("")));
        pieces
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub thoughts: String,
    pub text: String,
    pub calls: Vec<ToolCall>,
    /// The text of each call's arguments, as a stream gives it.
    pub arguments: Vec<String>,
    pub tokens: Vec<u32>,
    pub logprobs: Vec<TokenLogprobs>,
    pub prompt_logprobs: Vec<TokenLogprobs>,
    pub embedding: Vec<f32>,
    /// Tokens of thoughts.
    pub n_thoughts: usize,
    pub summary: Summary,
}

/// True if the token of an event belongs to thoughts.
pub(super) fn is_thoughts(event: &TextEvent) -> bool {
    event.token.is_some() && event.deltas.iter().any(|delta| delta.kind == PartKind::Thoughts)
}

impl Whole {
    fn add(&mut self, view: View, event: Event) -> Result<(), ApiError> {
        match event {
            Event::Text(event) => {
                self.n_thoughts += usize::from(is_thoughts(&event));
                for piece in view.pieces(&event.deltas) {
                    match piece {
                        Piece::Thoughts(text) => self.thoughts.push_str(text),
                        Piece::Text(text) => self.text.push_str(text),
                        Piece::CallBegins(..) => self.arguments.push(String::new()),
                        Piece::Arguments(text) => {
                            self.arguments.last_mut().into_iter().for_each(|all| all.push_str(text));
                        }
                        Piece::Call(call) => self.calls.push(call.clone()),
                    }
                }
                self.tokens.extend(event.token);
                self.logprobs.extend(event.logprobs);
            }
            Event::PromptLogprobs(logprobs) => self.prompt_logprobs = logprobs,
            Event::Embedding(values) => self.embedding = values,
            Event::Finished(summary) => self.summary = summary,
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
        Ok(())
    }
}

/// Waits for the whole answers of all choices.
pub(super) async fn collect(mut replies: Replies, view: View) -> Result<Vec<Whole>, ApiError> {
    let mut choices: Vec<Whole> = (0..replies.len()).map(|_| Whole::default()).collect();
    while let Some((choice, event)) = replies.next().await {
        choices[choice].add(view, event)?;
    }
    Ok(choices)
}

/// The event of one token of this part, for tests of streams. A call comes in three pieces.
#[cfg(test)]
pub(super) fn delta_event(kind: PartKind, text: &str, calls: Vec<ToolCall>) -> Event {
    let pieces = |call: &ToolCall| {
        let arguments = call.arguments_text();
        let (first, rest) = arguments.split_at(arguments.len() / 2);
        [
            CallPiece::Begin { id: call.id.clone(), name: call.name.clone() },
            CallPiece::Arguments(first.into()),
            CallPiece::Arguments(rest.into()),
        ]
    };
    let pieces = calls.iter().flat_map(pieces).collect();
    let delta = Delta { kind, begins: false, text: text.into(), raw: text.into(), calls, pieces };
    Event::Text(TextEvent { deltas: vec![delta], token: Some(1), ..TextEvent::default() })
}
