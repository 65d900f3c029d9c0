//! Streams of thoughts, text and calls, which the demo model does not have.

use insta::assert_snapshot;
use serde_json::{Map, Value, json};

use super::responses_answer::Answer;
use super::responses_input::add_input;
use crate::engine::{EngineError, Event, Stop, Summary};
use crate::serve::parts::{View, delta_event as delta};
use crate::serve::stream::{Frames, Writer};
use crate::text::{PartKind, ToolCall};

fn answer() -> Answer {
    Answer::new("resp_1".into(), Map::new(), View { thoughts_apart: true, calls_apart: true }, None)
}

fn finished(stop: Stop) -> Event {
    Event::Finished(Summary { stop: Some(stop), prompt_tokens: 9, generated_tokens: 5, ..Summary::default() })
}

fn write(answer: &mut Answer, events: &[Event]) -> Vec<Value> {
    let mut out = Frames::default();
    answer.start(&mut out);
    events.iter().for_each(|event| answer.event(0, event, &mut out));
    answer.end(&mut out);
    events_of(&out)
}

fn events_of(out: &Frames) -> Vec<Value> {
    let text = out.to_string();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The events on a line each, without the times of responses.
fn lines(events: &[Value]) -> String {
    let line = |event: &Value| {
        let mut event = event.clone();
        for name in ["created_at", "completed_at"] {
            if let Some(time) = event.pointer_mut(&format!("/response/{name}")) {
                *time = "[time]".into();
            }
        }
        event.to_string()
    };
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn long_answer(stop: Stop) -> Vec<Event> {
    let call = ToolCall { id: None, name: "add".into(), arguments: json!({"a": 1}) };
    vec![
        delta(PartKind::Thoughts, "Let me", vec![]),
        delta(PartKind::Thoughts, " see.", vec![]),
        delta(PartKind::ToolCall, "x", vec![call]),
        delta(PartKind::Text, "Adding.", vec![]),
        finished(stop),
    ]
}

#[test]
fn events_come_in_order() {
    assert_snapshot!(lines(&write(&mut answer(), &long_answer(Stop::EndOfGeneration))));
}

#[test]
fn numbers_have_no_gap_and_the_last_event_has_the_whole_output() {
    let mut answer = answer();
    let events = write(&mut answer, &long_answer(Stop::EndOfGeneration));
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n);
    }
    let last = &events.last().unwrap()["response"];
    assert_eq!(*last, answer.response());
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    assert_eq!(last["output"], done.map(|event| event["item"].clone()).collect::<Value>());
    assert_eq!(last["output"].as_array().unwrap().len(), 3);
    assert_eq!(last["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
}

#[test]
fn a_cut_answer_is_incomplete_with_its_reason() {
    for stop in [Stop::Limit, Stop::ContextFull] {
        let events = write(&mut answer(), &long_answer(stop));
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(last["response"]["status"], "incomplete");
        assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
        assert_eq!(last["response"]["output"][2]["status"], "incomplete", "the text that was cut");
        assert_eq!(last["response"]["output"][0]["status"], "completed", "the thoughts that were not");
    }
}

#[test]
fn a_failure_ends_the_response() {
    let (mut answer, mut out) = (answer(), Frames::default());
    write(&mut answer, &[delta(PartKind::Text, "Hal", vec![])]);
    let error = EngineError::Stopped { reason: "the device is gone".into() };
    answer.error(&error.into(), &mut out);
    let events = events_of(&out);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"]["code"], "unavailable_error");
    assert!(last["response"]["error"]["message"].as_str().unwrap().contains("the device is gone"));
}

/// Thoughts, text and calls of one answer are one message of the conversation, and so is the answer that is kept.
#[test]
fn items_of_one_answer_are_one_message() {
    let items = json!([
        {"role": "user", "content": [{"type": "input_text", "text": "Add."}, {"type": "input_text", "text": "Now."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well:"}]},
        {"type": "function_call", "call_id": "a", "name": "add", "arguments": "{\"a\":1}"},
        {"type": "function_call", "call_id": "b", "name": "sub", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "7"}]},
        {"type": "function_call_output", "call_id": "a", "output": "8"},
        {"role": "assistant", "content": "Done."},
        {"role": "assistant", "content": "Really."},
        {"role": "developer", "content": "Be brief."},
    ]);
    let mut messages = Vec::new();
    add_input(&mut messages, &items).unwrap();
    let values: Vec<Value> = messages.iter().map(|message| serde_json::to_value(message).unwrap()).collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&values).unwrap());
}

#[test]
fn wrong_items_are_named() {
    for (items, param) in [
        (json!([]), "input"),
        (json!(5), "input"),
        (json!([{"role": "user"}]), "input[0].content"),
        (json!([{"role": "wizard", "content": "x"}]), "input[0].role"),
        (json!([{"content": "x"}]), "input[0]"),
        (json!([{"type": "item_reference", "id": "x"}]), "input[0].type"),
        (json!([{"type": 5}]), "input[0].type"),
        (json!([{"type": "function_call", "call_id": "a"}]), "input[0]"),
        (json!([{"type": "function_call", "call_id": "a", "name": 5}]), "input[0].name"),
        (
            json!([{"type": "function_call", "call_id": "a", "name": "x", "arguments": "{"}]),
            "input[0].function.arguments",
        ),
        (json!([{"type": "function_call_output", "call_id": "a", "output": "x"}]), "input[0].call_id"),
        (json!([{"role": "user", "content": [{"type": "input_image"}]}]), "input[0].content[0]"),
    ] {
        let error = add_input(&mut Vec::new(), &items).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{items}: {}", error.message);
    }
}
