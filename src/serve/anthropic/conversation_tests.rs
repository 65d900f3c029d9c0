//! Conversations as messages for templates.

use serde_json::{Value, json};

use super::conversation::messages;

fn read(system: Value, list: Value) -> Vec<Value> {
    let (system, list) = (serde_json::from_value(system).unwrap(), serde_json::from_value(list).unwrap());
    let messages = messages(system, list).unwrap();
    messages.iter().map(|message| serde_json::to_value(message).unwrap()).collect()
}

#[test]
fn blocks_become_messages_in_their_order() {
    let header = json!({"type": "text", "text": "x-anthropic-billing-header: cch=1;"});
    let system = json!([header, {"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]);
    let list = json!([
        {"role": "user", "content": "Add."},
        {"role": "user", "content": [{"type": "text", "text": "Now."}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "rfgraph"},
            {"type": "text", "text": "Well:"},
            {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}},
            {"type": "tool_use", "id": "b", "name": "sub", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "b", "content": "no numbers", "is_error": true},
            {"type": "tool_result", "tool_use_id": "a",
                "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
            {"type": "text", "text": "Go on."},
        ]},
    ]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&read(system, list)).unwrap());
}

/// A line in the middle of a text is left out too, the others stay as they are.
#[test]
fn only_headers_are_left_out_of_system_prompts() {
    let list = json!([{"role": "user", "content": "x"}]);
    let text = "One.\nx-anthropic-a: 1\n\n Two: x-anthropic-b.";
    assert_eq!(read(json!(text), list.clone())[0]["content"], "One.\n\n Two: x-anthropic-b.");
    assert_eq!(read(json!("x-anthropic-a: 1"), list.clone())[0]["role"], "user", "no system prompt is left");
    assert_eq!(read(Value::Null, list).len(), 1);
}
