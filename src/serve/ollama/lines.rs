//! Answers as lines of JSON, or as one object.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{Named, now};
use crate::engine::{Event, Stop, Summary, TextEvent};
use crate::serve::app::App;
use crate::serve::ask::{Ask, Client, submit};
use crate::serve::error::{ApiError, Family};
use crate::serve::models::Held;
use crate::serve::openai::logprobs::chat_entry;
use crate::serve::parts::{Piece, View, collect};
use crate::serve::stream::{self, Frames, Writer};
use crate::text::ToolCall;

/// The form of a line.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// `message`.
    Chat,
    /// `response`, and at the end the tokens of the conversation so far, if there is one.
    Generate {
        /// The prompt's tokens.
        context: Option<Vec<u32>>,
    },
}

/// A request's task.
pub(super) struct LinesAsk {
    pub ask: Ask,
    pub view: View,
    pub streams: bool,
    pub form: Form,
}

/// The content of a line.
#[derive(Debug, Default)]
struct Content<'c> {
    text: &'c str,
    thoughts: &'c str,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Form {
    /// A line, without what only the last one has.
    fn line(&self, model: &str, content: Content<'_>, done: bool) -> Value {
        let mut line = json!({"model": model, "created_at": now()});
        let mut parts = Map::new();
        let key = match self {
            Form::Chat => {
                parts.insert("role".into(), "assistant".into());
                "content"
            }
            Form::Generate { .. } => "response",
        };
        parts.insert(key.into(), content.text.into());
        if !content.thoughts.is_empty() {
            parts.insert("thinking".into(), content.thoughts.into());
        }
        if !content.calls.is_empty() {
            parts.insert("tool_calls".into(), content.calls.into());
        }
        match self {
            Form::Chat => line["message"] = parts.into(),
            Form::Generate { .. } => parts.into_iter().for_each(|(key, value)| line[key] = value),
        }
        line["done"] = done.into();
        if !content.logprobs.is_empty() {
            line["logprobs"] = content.logprobs.into();
        }
        line
    }
}

/// The line of a request that only asks to load the model, or to unload it.
pub(super) fn bare_line(model: &str, form: &Form, reason: &str) -> Response {
    let mut line = form.line(model, Content::default(), true);
    line["done_reason"] = reason.into();
    Json(line).into_response()
}

/// Submits a request and answers it.
pub(super) async fn respond(
    app: &Arc<App>,
    named: Named,
    client: &Client,
    asked: LinesAsk,
) -> Result<Response, ApiError> {
    let Named { loaded, name: model, load_time } = named;
    let replies = submit(app, &loaded, client, std::slice::from_ref(&asked.ask), 1)?;
    let LinesAsk { view, streams, form, .. } = asked;
    let calls = app.unique("call_");
    let mut lines = Lines { loaded, model, view, form, tokens: Vec::new(), calls, n_calls: 0, load_time };
    if streams {
        return Ok(stream::respond(replies, lines));
    }
    let mut choices = collect(replies, view).await?;
    let Some(whole) = choices.pop() else { return Ok(bare_line(&lines.model, &lines.form, "load")) };
    lines.tokens = whole.tokens;
    let content = Content {
        text: &whole.text,
        thoughts: &whole.thoughts,
        calls: whole.calls.iter().enumerate().map(|(n, call)| call_value(&lines.calls, n, call)).collect(),
        logprobs: whole.logprobs.iter().map(|token| chat_entry(lines.loaded.tokenizer(), token)).collect(),
    };
    let mut line = lines.form.line(&lines.model, content, true);
    lines.finish(&mut line, &whole.summary);
    Ok(Json(line).into_response())
}

/// Writes an answer line by line.
struct Lines {
    loaded: Arc<Held>,
    /// The model's name as the request has it.
    model: String,
    view: View,
    form: Form,
    tokens: Vec<u32>,
    /// Begins the ids of calls, which no other answer has.
    calls: String,
    n_calls: usize,
    load_time: Duration,
}

impl Lines {
    fn text(&mut self, event: &TextEvent, out: &mut Frames) {
        self.tokens.extend(event.token);
        let mut logprobs: Vec<Value> = Vec::new();
        logprobs.extend(event.logprobs.iter().map(|token| chat_entry(self.loaded.tokenizer(), token)));
        let mut pieces = self.view.pieces(&event.deltas);
        // ollama gives calls whole.
        pieces.retain(|piece| !matches!(piece, Piece::CallBegins(..) | Piece::Arguments(_)));
        if pieces.is_empty() && !logprobs.is_empty() {
            // A token inside a character: its probability goes with an empty text.
            let content = Content { logprobs: std::mem::take(&mut logprobs), ..Content::default() };
            out.line(&self.form.line(&self.model, content, false));
        }
        for piece in pieces {
            let mut content = Content { logprobs: std::mem::take(&mut logprobs), ..Content::default() };
            match piece {
                Piece::Text(text) => content.text = text,
                Piece::Thoughts(text) => content.thoughts = text,
                Piece::Call(call) => {
                    content.calls.push(call_value(&self.calls, self.n_calls, call));
                    self.n_calls += 1;
                }
                Piece::CallBegins(..) | Piece::Arguments(_) => continue,
            }
            out.line(&self.form.line(&self.model, content, false));
        }
    }

    /// Adds the counts and times of the answer to its last line. Times are in nanoseconds.
    fn finish(&mut self, line: &mut Value, summary: &Summary) {
        let is_cut = matches!(summary.stop, Some(Stop::Limit | Stop::ContextFull));
        line["done_reason"] = if is_cut { "length" } else { "stop" }.into();
        let times = [self.load_time + summary.queue_time, summary.prompt_time, summary.decode_time];
        let [load, prompt, decode] =
            times.map(|time| Value::from(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
        let total = times.iter().sum::<Duration>().as_nanos();
        line["total_duration"] = u64::try_from(total).unwrap_or(u64::MAX).into();
        // The time for the model, and for the request's turn.
        line["load_duration"] = load;
        line["prompt_eval_count"] = summary.prompt_tokens.into();
        line["prompt_eval_duration"] = prompt;
        line["eval_count"] = summary.generated_tokens.into();
        line["eval_duration"] = decode;
        if let Form::Generate { context: Some(context) } = &mut self.form {
            context.append(&mut self.tokens);
            line["context"] = std::mem::take(context).into();
        }
    }
}

/// A call of a tool. Its arguments are an object, whatever the model wrote.
fn call_value(answer: &str, index: usize, call: &ToolCall) -> Value {
    let read = |text: &str| serde_json::from_str(text).ok().filter(Value::is_object);
    let arguments = match &call.arguments {
        arguments @ Value::Object(_) => arguments.clone(),
        Value::Null => json!({}),
        Value::String(text) => read(text).unwrap_or_else(|| json!({"input": text})),
        other => json!({"input": other}),
    };
    let id = call.id.clone().unwrap_or_else(|| format!("{answer}_{index}"));
    json!({"id": id, "function": {"index": index, "name": call.name, "arguments": arguments}})
}

impl Writer for Lines {
    fn event(&mut self, _choice: usize, event: &Event, out: &mut Frames) {
        match event {
            Event::Text(event) => self.text(event, out),
            Event::Finished(summary) => {
                let mut line = self.form.line(&self.model, Content::default(), true);
                self.finish(&mut line, summary);
                out.line(&line);
            }
            _ => {}
        }
    }

    /// The last line says that it is the last.
    fn end(&mut self, _out: &mut Frames) {}

    fn error(&mut self, error: &ApiError, out: &mut Frames) {
        out.line(&error.body(Family::Ollama, ""));
    }

    fn is_sse(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Content, Form, call_value};
    use crate::text::ToolCall;

    fn call(arguments: Value) -> ToolCall {
        ToolCall { id: None, name: "f".into(), arguments }
    }

    /// The official client refuses arguments that are no object.
    #[test]
    fn arguments_of_calls_are_objects() {
        for (written, expected) in [
            (json!({"a": 1}), json!({"a": 1})),
            (json!("{\"a\": 1}"), json!({"a": 1})),
            (json!("print(1)"), json!({"input": "print(1)"})),
            (json!("[1]"), json!({"input": "[1]"})),
            (json!([1]), json!({"input": [1]})),
            (json!(null), json!({})),
        ] {
            let value = call_value("call_1", 2, &call(written.clone()));
            assert_eq!(
                value["function"],
                json!({"index": 2, "name": "f", "arguments": expected}),
                "{written}"
            );
            assert_eq!(value["id"], "call_1_2");
        }
        let named = ToolCall { id: Some("x7".into()), ..call(json!({})) };
        assert_eq!(call_value("call_1", 0, &named)["id"], "x7");
    }

    #[test]
    fn thoughts_and_calls_are_in_the_message() {
        let content = Content { thoughts: "Hm.", calls: vec![json!(1)], ..Content::default() };
        let mut line = Form::Chat.line("m", content, false);
        line["created_at"] = "now".into();
        let message = json!({"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [1]});
        assert_eq!(line, json!({"model": "m", "created_at": "now", "message": message, "done": false}));
        let content = Content { thoughts: "Hm.", ..Content::default() };
        let line = Form::Generate { context: None }.line("m", content, false);
        assert_eq!((&line["thinking"], &line["response"]), (&json!("Hm."), &json!("")));
    }
}
