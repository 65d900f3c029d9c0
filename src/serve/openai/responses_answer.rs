//! An answer as a response: items of output, event by event, and the whole response in the end.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::stored::Kept;
use crate::engine::{Event, Stop, Summary};
use crate::serve::app::{App, now};
use crate::serve::error::{ApiError, Family};
use crate::serve::parts::{Piece, View, is_thoughts};
use crate::serve::stream::{Frames, Writer};
use crate::serve::usage::Usage;
use crate::text::Message;

/// Where a response is kept: with the conversation that led to it, without instructions.
pub(super) struct Keep {
    pub app: Arc<App>,
    pub key: Option<usize>,
    pub messages: Vec<Message>,
}

pub(super) struct Answer {
    /// The response as it is now, without its output.
    response: Map<String, Value>,
    id: String,
    view: View,
    keep: Option<Keep>,
    /// The number of the next event.
    sequence: usize,
    /// The items that are whole.
    output: Vec<Value>,
    open: Option<Open>,
    call: Option<OpenCall>,
    /// The answer as a message of the conversation.
    message: Message,
    n_thoughts: usize,
}

/// The call that goes on.
struct OpenCall {
    id: String,
    call_id: String,
    name: String,
    arguments: String,
}

impl OpenCall {
    fn item(&self, status: &str) -> Value {
        json!({"id": self.id, "type": "function_call", "status": status, "call_id": self.call_id,
            "name": self.name, "arguments": self.arguments})
    }
}

/// The item that goes on.
struct Open {
    id: String,
    is_thoughts: bool,
    text: String,
}

impl Open {
    /// The names of its events, and of the type of its part.
    fn kind(&self) -> &'static str {
        if self.is_thoughts { "reasoning_text" } else { "output_text" }
    }

    fn part(&self, text: &str) -> Value {
        match self.is_thoughts {
            true => json!({"type": self.kind(), "text": text}),
            false => json!({"type": self.kind(), "text": text, "annotations": [], "logprobs": []}),
        }
    }

    fn item(&self, status: &str, content: Value) -> Value {
        match self.is_thoughts {
            true => json!({"id": self.id, "type": "reasoning", "status": status, "summary": [],
                "content": content, "encrypted_content": null}),
            false => json!({"id": self.id, "type": "message", "status": status, "role": "assistant",
                "content": content}),
        }
    }
}

impl Answer {
    /// An answer whose response repeats the fields of the request in `response`.
    pub fn new(id: String, mut response: Map<String, Value>, view: View, keep: Option<Keep>) -> Answer {
        let own = [
            ("id", id.as_str().into()),
            ("object", "response".into()),
            ("created_at", now().into()),
            ("status", "in_progress".into()),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("usage", Value::Null),
        ];
        response.extend(own.map(|(name, value)| (name.to_string(), value)));
        Answer {
            response,
            id,
            view,
            keep,
            sequence: 0,
            output: Vec::new(),
            open: None,
            call: None,
            message: Message::new("assistant", ""),
            n_thoughts: 0,
        }
    }

    /// The response as it is now.
    pub fn response(&self) -> Value {
        let mut response = self.response.clone();
        response.insert("output".into(), self.output.clone().into());
        response.into()
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.response.insert(name.to_string(), value.into());
    }

    /// Writes an event with its name and number.
    fn event(&mut self, name: &str, mut fields: Value, out: &mut Frames) {
        let kind = format!("response.{name}");
        fields["type"] = kind.as_str().into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        out.event(&kind, &fields);
    }

    fn whole_event(&mut self, name: &str, out: &mut Frames) {
        let response = self.response();
        self.event(name, json!({ "response": response }), out);
    }

    /// An event of the item that goes on.
    fn item_event(&mut self, name: &str, item_id: &str, mut fields: Value, out: &mut Frames) {
        fields["item_id"] = item_id.into();
        fields["output_index"] = self.output.len().into();
        self.event(name, fields, out);
    }

    /// The id of the next item.
    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}{:02x}", self.id.trim_start_matches("resp_"), self.output.len())
    }

    fn open(&mut self, is_thoughts: bool, out: &mut Frames) {
        let id = self.item_id(if is_thoughts { "rs" } else { "msg" });
        let open = Open { id, is_thoughts, text: String::new() };
        let added = json!({"output_index": self.output.len(), "item": open.item("in_progress", json!([]))});
        self.event("output_item.added", added, out);
        let part = json!({"content_index": 0, "part": open.part("")});
        self.item_event("content_part.added", &open.id, part, out);
        self.open = Some(open);
    }

    fn close(&mut self, status: &str, out: &mut Frames) {
        self.end_call(status, out);
        let Some(open) = self.open.take() else { return };
        let mut done = json!({"content_index": 0, "text": open.text});
        if !open.is_thoughts {
            done["logprobs"] = json!([]);
        }
        self.item_event(&format!("{}.done", open.kind()), &open.id, done, out);
        let part = open.part(&open.text);
        self.item_event("content_part.done", &open.id, json!({"content_index": 0, "part": part}), out);
        self.item_done(open.item(status, json!([part])), out);
    }

    fn item_done(&mut self, item: Value, out: &mut Frames) {
        self.event("output_item.done", json!({"output_index": self.output.len(), "item": item}), out);
        self.output.push(item);
    }

    fn text(&mut self, is_thoughts: bool, text: &str, out: &mut Frames) {
        if self.open.as_ref().is_none_or(|open| open.is_thoughts != is_thoughts) {
            self.close("completed", out);
            self.open(is_thoughts, out);
        }
        let Some(open) = &mut self.open else { return };
        open.text.push_str(text);
        let (id, name) = (open.id.clone(), format!("{}.delta", open.kind()));
        let mut delta = json!({"content_index": 0, "delta": text});
        if is_thoughts {
            self.message.reasoning_content.get_or_insert_default().push_str(text);
        } else {
            self.message.content.push_str(text);
            delta["logprobs"] = json!([]);
        }
        self.item_event(&name, &id, delta, out);
    }

    fn begin_call(&mut self, own: Option<&str>, name: &str, out: &mut Frames) {
        self.close("completed", out);
        let call_id = own.map_or_else(|| self.item_id("call"), str::to_owned);
        let (id, name) = (self.item_id("fc"), name.to_owned());
        let call = OpenCall { id, call_id, name, arguments: String::new() };
        let added = json!({"output_index": self.output.len(), "item": call.item("in_progress")});
        self.event("output_item.added", added, out);
        self.call = Some(call);
    }

    fn arguments(&mut self, text: &str, out: &mut Frames) {
        let Some(call) = &mut self.call else { return };
        call.arguments.push_str(text);
        let id = call.id.clone();
        self.item_event("function_call_arguments.delta", &id, json!({ "delta": text }), out);
    }

    fn end_call(&mut self, status: &str, out: &mut Frames) {
        let Some(call) = self.call.take() else { return };
        let done = json!({"name": call.name, "arguments": call.arguments});
        self.item_event("function_call_arguments.done", &call.id, done, out);
        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        let function = json!({"name": call.name, "arguments": arguments});
        self.message.tool_calls.push(json!({"id": call.call_id, "type": "function", "function": function}));
        self.item_done(call.item(status), out);
    }

    fn finish(&mut self, summary: &Summary, out: &mut Frames) {
        let is_cut = matches!(summary.stop, Some(Stop::Limit | Stop::ContextFull));
        let status = if is_cut { "incomplete" } else { "completed" };
        self.close(status, out);
        if is_cut {
            self.set("incomplete_details", json!({"reason": "max_output_tokens"}));
        } else {
            self.set("completed_at", now());
        }
        let mut usage = Usage::default();
        usage.add(0, 1, summary, self.n_thoughts);
        self.set("usage", usage.responses());
        self.set("status", status);
        if let Some(Keep { app, key, mut messages }) = self.keep.take() {
            messages.push(std::mem::take(&mut self.message));
            app.responses.keep(key, Kept { id: self.id.clone(), response: self.response(), messages });
        }
        self.whole_event(status, out);
    }
}

impl Writer for Answer {
    fn start(&mut self, out: &mut Frames) {
        self.whole_event("created", out);
        self.whole_event("in_progress", out);
    }

    fn event(&mut self, _choice: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Text(text) => {
                self.n_thoughts += usize::from(is_thoughts(text));
                for piece in self.view.pieces(&text.deltas) {
                    match piece {
                        Piece::Thoughts(text) => self.text(true, text, out),
                        Piece::Text(text) => self.text(false, text, out),
                        Piece::CallBegins(own, name) => self.begin_call(own, name, out),
                        Piece::Arguments(text) => self.arguments(text, out),
                        // A cut one goes on to the end of the answer, which says that it is not whole.
                        Piece::Call(call) if call.arguments.is_string() => {}
                        Piece::Call(_) => self.end_call("completed", out),
                    }
                }
            }
            Event::Finished(summary) => self.finish(summary, out),
            _ => {}
        }
    }

    fn end(&mut self, _out: &mut Frames) {}

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        self.close("incomplete", out);
        let body = error.body(Family::OpenAi, &self.id);
        let code = Some(&body["error"]["code"]).filter(|code| !code.is_null());
        let code = code.unwrap_or(&body["error"]["type"]);
        self.set("error", json!({"code": code, "message": error.message}));
        self.set("status", "failed");
        self.whole_event("failed", out);
    }
}
