//! Streams of thoughts, text and calls, which the demo model does not have.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::answer::Answer;
use crate::engine::{EngineError, Event, Stop, Summary};
use crate::serve::parts::{View, delta_event as delta};
use crate::serve::stream::{Frames, Writer};
use crate::text::{PartKind, ToolCall};

fn answer() -> Answer {
    let view = View { thoughts_apart: true, calls_apart: true };
    Answer::new("msg_1".into(), "demo".into(), view, 9, "req_1".into())
}

fn call(id: Option<&str>, arguments: Value) -> ToolCall {
    ToolCall { id: id.map(str::to_owned), name: "add".into(), arguments }
}

fn finished(stop: Stop) -> Event {
    let stop_string = (stop == Stop::StopString).then(|| "END".to_string());
    Event::Finished(Summary {
        stop: Some(stop),
        stop_string,
        prompt_tokens: 9,
        cached_tokens: 4,
        generated_tokens: 5,
        ..Summary::default()
    })
}

fn write(answer: &mut Answer, events: &[Event]) -> String {
    let mut out = Frames::default();
    events.iter().for_each(|event| answer.event(0, event, &mut out));
    answer.end(&mut out);
    out.to_string()
}

fn long_answer() -> Vec<Event> {
    vec![
        delta(PartKind::Thoughts, "Let me", vec![]),
        delta(PartKind::Thoughts, " see.", vec![]),
        delta(PartKind::Text, "Adding.", vec![]),
        delta(PartKind::ToolCall, "x", vec![call(None, json!({"a": 1})), call(Some("a1"), json!({"a": 2}))]),
        finished(Stop::EndOfGeneration),
    ]
}

#[test]
fn blocks_are_numbered_and_closed() {
    assert_snapshot!(write(&mut answer(), &long_answer()));
}

/// The client that adds the deltas has the message that a whole answer is.
#[test]
fn a_stream_is_the_whole_message() {
    let mut answer = answer();
    let stream = write(&mut answer, &long_answer());
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut content: Vec<Value> = Vec::new();
    let mut inputs: std::collections::HashMap<usize, String> = std::collections::HashMap::new();
    for event in data.map(|data| serde_json::from_str::<Value>(data).unwrap()) {
        let at = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "content_block_start" => content.push(event["content_block"].clone()),
            "content_block_delta" => {
                let delta = event["delta"].as_object().unwrap();
                let (name, value) = delta.iter().find(|(name, _)| *name != "type").unwrap();
                let block = &mut content[at];
                if name == "partial_json" {
                    inputs.entry(at).or_default().push_str(value.as_str().unwrap());
                } else {
                    block[name] =
                        format!("{}{}", block[name].as_str().unwrap(), value.as_str().unwrap()).into();
                }
            }
            _ => {}
        }
    }
    for (at, input) in inputs {
        content[at]["input"] = serde_json::from_str(&input).unwrap();
    }
    let whole = answer.message();
    assert_eq!(whole["content"], json!(content));
    assert_eq!(content.len(), 4);
    assert_eq!(whole["stop_reason"], "tool_use");
}

#[test]
fn each_end_has_its_reason() {
    for (stop, reason) in [
        (Stop::EndOfGeneration, "end_turn"),
        (Stop::Limit, "max_tokens"),
        (Stop::StopString, "stop_sequence"),
        (Stop::ContextFull, "model_context_window_exceeded"),
    ] {
        let mut answer = answer();
        let stream = write(&mut answer, &[delta(PartKind::Text, "x", vec![]), finished(stop)]);
        assert!(stream.contains(&format!("\"stop_reason\":\"{reason}\"")), "{stream}");
        assert_eq!(answer.message()["stop_reason"], reason);
        let sequence = if stop == Stop::StopString { json!("END") } else { Value::Null };
        assert_eq!(answer.message()["stop_sequence"], sequence);
    }
}

/// Calls of tools that take a text, and ids that Anthropic's clients refuse.
#[test]
fn inputs_are_objects_and_ids_are_plain() {
    let mut answer = answer();
    let odd = call(Some("call 1!"), json!("print(1)"));
    write(&mut answer, &[delta(PartKind::ToolCall, "x", vec![odd]), finished(Stop::EndOfGeneration)]);
    let block = &answer.message()["content"][0];
    assert_eq!(block["input"], json!({"input": "print(1)"}));
    assert_eq!(block["id"], "toolu_100");
}

#[test]
fn a_failure_inside_a_stream_has_anthropics_shape() {
    let mut out = Frames::default();
    let error = EngineError::Stopped { reason: "the device is gone".into() };
    answer().error(&error.into(), &mut out);
    assert_snapshot!(out.to_string());
}

/// A client of Anthropic's fails at an event before `message_start`.
#[test]
fn pings_before_the_message_are_comments() {
    let (mut answer, mut out) = (answer(), Frames::default());
    answer.ping(&mut out);
    assert_eq!(out.to_string(), ":\n\n");
    let mut out = Frames::default();
    answer.event(0, &delta(PartKind::Text, "x", vec![]), &mut Frames::default());
    answer.ping(&mut out);
    assert_eq!(out.to_string(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}
