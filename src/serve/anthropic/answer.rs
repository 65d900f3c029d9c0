//! An answer in Anthropic's form: blocks of content, event by event, and the whole message in the end.

use serde_json::{Value, json};

use crate::engine::{Event, Stop, Summary};
use crate::serve::error::{ApiError, Family};
use crate::serve::parts::{Piece, View, is_thoughts};
use crate::serve::stream::{Frames, Writer};
use crate::serve::usage::Usage;

/// The signature of thoughts. Clients send it back with them; nothing is proved by it.
const SIGNATURE: &str = "rfgraph";

pub(super) struct Answer {
    id: String,
    model: String,
    view: View,
    request_id: String,
    begun: bool,
    /// The blocks so far.
    content: Vec<Block>,
    /// The last block goes on.
    is_open: bool,
    usage: Usage,
    summary: Summary,
}

/// A block of content.
enum Block {
    Thinking(String),
    Text(String),
    /// The input is the text of an object.
    ToolUse {
        id: String,
        name: String,
        input: String,
    },
}

impl Block {
    fn value(&self) -> Value {
        match self {
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": SIGNATURE}),
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::ToolUse { id, name, input } => {
                let input_text = input;
                let input = serde_json::from_str(input).ok().filter(Value::is_object);
                // A tool that takes a text, such as an interpreter, and an input that was cut: it is always an object.
                let input = input.unwrap_or_else(|| json!({ "input": input_text }));
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }

    /// The block without its content, as a stream begins it.
    fn empty(&self) -> Value {
        match self {
            Block::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text(_) => json!({"type": "text", "text": ""}),
            Block::ToolUse { id, name, .. } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
        }
    }
}

impl Answer {
    /// The answer to a prompt of `n_prompt` tokens.
    pub fn new(id: String, model: String, view: View, n_prompt: usize, request_id: String) -> Answer {
        Answer {
            id,
            model,
            view,
            request_id,
            begun: false,
            content: Vec::new(),
            is_open: false,
            usage: Usage { prompt: n_prompt, ..Usage::default() },
            summary: Summary::default(),
        }
    }

    /// The whole message.
    pub fn message(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content.iter().map(Block::value).collect::<Vec<_>>(),
            "stop_reason": self.stop_reason(),
            "stop_sequence": self.summary.stop_string,
            "usage": self.usage.anthropic(),
        })
    }

    fn stop_reason(&self) -> Option<&'static str> {
        let calls = || self.content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        match self.summary.stop? {
            Stop::Limit => Some("max_tokens"),
            Stop::ContextFull => Some("model_context_window_exceeded"),
            Stop::StopString => Some("stop_sequence"),
            _ if calls() => Some("tool_use"),
            _ => Some("end_turn"),
        }
    }

    /// The beginning of the message. It waits for the first event, which tells how much of the prompt was cached.
    fn begin(&mut self, out: &mut Frames) {
        if !std::mem::replace(&mut self.begun, true) {
            let message = self.message();
            out.event("message_start", &json!({"type": "message_start", "message": message}));
        }
    }

    fn open(&mut self, block: Block, out: &mut Frames) {
        self.close(out);
        let start = json!({
            "type": "content_block_start",
            "index": self.content.len(),
            "content_block": block.empty(),
        });
        out.event("content_block_start", &start);
        self.content.push(block);
        self.is_open = true;
    }

    fn delta(&self, delta: Value, out: &mut Frames) {
        let index = self.content.len().saturating_sub(1);
        let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
        out.event("content_block_delta", &delta);
    }

    fn close(&mut self, out: &mut Frames) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        if let Some(Block::Thinking(_)) = self.content.last() {
            self.delta(json!({"type": "signature_delta", "signature": SIGNATURE}), out);
        }
        let index = self.content.len() - 1;
        out.event("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
    }

    fn piece(&mut self, piece: Piece<'_>, out: &mut Frames) {
        let delta = match piece {
            Piece::Thoughts(text) => {
                if !(self.is_open && matches!(self.content.last(), Some(Block::Thinking(_)))) {
                    self.open(Block::Thinking(String::new()), out);
                }
                json!({"type": "thinking_delta", "thinking": text})
            }
            Piece::Text(text) => {
                if !(self.is_open && matches!(self.content.last(), Some(Block::Text(_)))) {
                    self.open(Block::Text(String::new()), out);
                }
                json!({"type": "text_delta", "text": text})
            }
            Piece::CallBegins(id, name) => {
                let block = self.tool_use(id, name);
                return self.open(block, out);
            }
            Piece::Arguments(text) => json!({"type": "input_json_delta", "partial_json": text}),
            Piece::Call(_) => return self.close(out),
        };
        self.delta(delta, out);
        if let (
            Some(Block::Thinking(all) | Block::Text(all) | Block::ToolUse { input: all, .. }),
            Piece::Thoughts(text) | Piece::Text(text) | Piece::Arguments(text),
        ) = (self.content.last_mut(), piece)
        {
            all.push_str(text);
        }
    }

    /// A call with the model's own id if Anthropic's clients take it: some templates want it back.
    fn tool_use(&self, id: Option<&str>, name: &str) -> Block {
        let is_id = |id: &&str| {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        let made = || format!("toolu_{}{:02x}", self.id.trim_start_matches("msg_"), self.content.len());
        let id = id.filter(is_id).map_or_else(made, str::to_owned);
        Block::ToolUse { id, name: name.to_owned(), input: String::new() }
    }
}

impl Writer for Answer {
    fn event(&mut self, _choice: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Prompt(progress) => {
                self.usage.cached = progress.cached;
                self.begin(out);
            }
            Event::Text(text) => {
                self.begin(out);
                self.usage.thoughts += usize::from(is_thoughts(text));
                for piece in self.view.pieces(&text.deltas) {
                    self.piece(piece, out);
                }
            }
            Event::Finished(summary) => {
                self.usage = Usage { thoughts: self.usage.thoughts, ..Usage::default() };
                self.usage.add(0, 1, summary, 0);
                self.begin(out);
                self.close(out);
                self.summary = summary.clone();
                let delta = json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": self.stop_reason(), "stop_sequence": summary.stop_string},
                    "usage": self.usage.anthropic(),
                });
                out.event("message_delta", &delta);
            }
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Frames) {
        out.event("message_stop", &json!({"type": "message_stop"}));
    }

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        out.event("error", &error.body(Family::Anthropic, &self.request_id));
    }

    fn ping(&mut self, out: &mut Frames) {
        match self.begun {
            true => out.event("ping", &json!({"type": "ping"})),
            // Clients expect no event before the message's beginning.
            false => out.text(":\n\n"),
        }
    }
}
