//! Anthropic's interface: whole and streamed messages, counts, errors.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::client::{JSON, SHARED, post, request};
use crate::named_events::{named_events, types};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn ask(question: &str) -> Value {
    json!({"model": "demo", "max_tokens": 40, "temperature": 0,
        "messages": [{"role": "user", "content": question}]})
}

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn text(message: &Value) -> String {
    let blocks = message["content"].as_array().unwrap().iter();
    blocks.filter_map(|block| block["text"].as_str()).collect()
}

fn count(body: &Value) -> u64 {
    post(COUNT, body).json(200)["input_tokens"].as_u64().unwrap()
}

#[test]
fn a_message_is_answered() {
    let response = post(MESSAGES, &ask("What is 347 + 285?"));
    let message = response.json(200);
    assert_eq!(message["content"], json!([{"type": "text", "text": "632"}]));
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    let usage = &message["usage"];
    let n = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!((n("input_tokens") + n("cache_read_input_tokens"), n("output_tokens")), (21, 3));
    assert_eq!(n("cache_creation_input_tokens"), 0);
    assert!(message.get("timings").is_none());
    let id = response.header("request-id").unwrap();
    assert!(id.starts_with("req_") && response.header("x-request-id") == Some(id));
}

#[test]
fn a_stream_has_anthropics_events() {
    let response = post(MESSAGES, &with(ask("What is 347 + 286?"), json!({"stream": true})));
    let id = named_events(&response)[0]["message"]["id"].as_str().unwrap().to_string();
    assert!(id.starts_with("msg_"));
    assert_snapshot!(response.body.replace(&id, "[id]"));
}

#[test]
fn a_stream_adds_up_to_the_whole_message() {
    for seed in [1, 2, 3] {
        let fields = json!({"temperature": 1.0, "seed": seed, "cache_prompt": false});
        let body = with(ask("Tell me a story."), fields);
        let whole = post(MESSAGES, &body).json(200);
        let events = named_events(&post(MESSAGES, &with(body, json!({"stream": true}))));
        let deltas: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        assert_eq!(deltas, text(&whole));
        let last = &events[events.len() - 2];
        assert_eq!(last["delta"]["stop_reason"], whole["stop_reason"]);
        assert_eq!(last["usage"], whole["usage"]);
        assert_eq!(types(&events).last(), Some(&"message_stop"));
    }
}

#[test]
fn cached_tokens_are_reported_whole_and_streamed() {
    let body = ask(&"Here are many words of a long question which fills blocks of the cache. ".repeat(4));
    let first = post(MESSAGES, &body).json(200);
    assert_eq!(first["usage"]["cache_read_input_tokens"], 0);
    let n = first["usage"]["input_tokens"].as_u64().unwrap();
    assert_eq!(count(&body), n);
    let cached = (n - 1) / 32 * 32;
    let second = post(MESSAGES, &body).json(200);
    assert_eq!(second["usage"]["cache_read_input_tokens"], cached);
    assert_eq!(second["usage"]["input_tokens"], n - cached, "the rest");
    let events = named_events(&post(MESSAGES, &with(body, json!({"stream": true}))));
    let usage = &events[0]["message"]["usage"];
    assert_eq!(
        (&usage["cache_read_input_tokens"], &usage["input_tokens"]),
        (&json!(cached), &json!(n - cached))
    );
}

#[test]
fn ends_have_their_reasons() {
    let limited = post(MESSAGES, &with(ask("What is 347 + 285?"), json!({"max_tokens": 2}))).json(200);
    assert_eq!((text(&limited), &limited["stop_reason"]), ("63".into(), &json!("max_tokens")));
    let stopped = post(MESSAGES, &with(ask("What is 347 + 285?"), json!({"stop_sequences": ["x", "2"]})));
    let stopped = stopped.json(200);
    assert_eq!((text(&stopped), &stopped["stop_reason"]), ("63".into(), &json!("stop_sequence")));
    assert_eq!(stopped["stop_sequence"], "2");
}

#[test]
fn an_assistants_message_at_the_end_is_continued() {
    let messages = json!([{"role": "user", "content": "What is 347 + 285?"},
        {"role": "assistant", "content": [{"type": "text", "text": "63"}]}]);
    assert_eq!(text(&post(MESSAGES, &with(ask(""), json!({"messages": messages}))).json(200)), "2");
}

#[test]
fn texts_and_blocks_are_the_same() {
    let plain = with(ask("What is 347 + 285?"), json!({"system": "Be brief."}));
    let blocks = with(
        plain.clone(),
        json!({
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "What is 347 + 285?"}]}],
        }),
    );
    assert_eq!(count(&plain), count(&blocks));
    assert!(count(&plain) > count(&ask("What is 347 + 285?")), "the system prompt counts");
}

/// Claude Code's line for billing changes with every request.
#[test]
fn headers_in_system_prompts_are_left_out() {
    let system = "Always answer at once, with the number and nothing else, as short as you can do it.";
    let plain = with(ask("What is 12 + 30?"), json!({"system": system}));
    let n = count(&plain);
    let header = |n: usize| format!("x-anthropic-billing-header: cc_version=2; cch={n:05x};");
    let blocks = |n: usize| json!([{"type": "text", "text": header(n)}, {"type": "text", "text": system}]);
    assert_eq!(count(&with(plain.clone(), json!({"system": blocks(1)}))), n);
    let line = format!("{}\n{system}", header(2));
    assert_eq!(count(&with(plain.clone(), json!({"system": line}))), n);
    assert!(count(&with(plain.clone(), json!({"system": format!("see {}", header(2))}))) > n, "no header");
    let cached = |n: usize| {
        let answer = post(MESSAGES, &with(plain.clone(), json!({"system": blocks(n)}))).json(200);
        answer["usage"]["cache_read_input_tokens"].as_u64().unwrap()
    };
    cached(3);
    assert!(cached(4) > 0, "the prefix is found again");
}

#[test]
fn schemas_hold() {
    let schema = json!({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for fields in [json!({"output_config": {"format": format}}), json!({ "output_format": format })] {
        let answer = post(MESSAGES, &with(ask("What is 347 + 285?"), fields)).json(200);
        let value: Value = serde_json::from_str(&text(&answer)).unwrap();
        assert!(value["sum"].is_i64(), "{value}");
    }
}

fn call(id: &str) -> Value {
    json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "A sum.", "signature": "any"},
        {"type": "tool_use", "id": id, "name": "add", "input": {"a": 1}},
    ]})
}

fn result(fields: Value) -> Value {
    let block = with(json!({"type": "tool_result", "tool_use_id": "t1"}), fields);
    json!({"role": "user", "content": [block, {"type": "text", "text": "And now?"}]})
}

#[test]
fn results_of_tools_are_in_the_prompt() {
    let talk = |fields: Value| {
        let messages = json!([{"role": "user", "content": "Add."}, call("t1"), result(fields)]);
        with(ask(""), json!({ "messages": messages }))
    };
    let n = count(&talk(json!({"content": "forty two"})));
    assert_eq!(count(&talk(json!({"content": [{"type": "text", "text": "forty two"}]}))), n);
    assert!(count(&talk(json!({"content": "forty two", "is_error": true}))) > n, "the flag is said");
    assert_eq!(count(&talk(json!({"content": "forty two", "is_error": false}))), n);
    assert!(count(&talk(json!({}))) < n);
    assert_eq!(post(MESSAGES, &talk(json!({"content": "forty two"}))).json(200)["type"], "message");
}

#[test]
fn wrong_fields_are_named_in_anthropics_shape() {
    let user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (fields, status, path) in [
        (json!({"max_tokens": null}), 400, "max_tokens"),
        (json!({"max_tokens": 0}), 400, "max_tokens"),
        (json!({"messages": []}), 400, "messages"),
        (json!({"messages": [{"role": "system", "content": "x"}]}), 400, "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), 400, "messages[0]"),
        (user(json!({"type": "text"})), 400, "messages[0].content[0].text"),
        (user(json!({"type": "tool_use"})), 400, "messages[0].content[0].type"),
        (user(json!({"type": "tool_result"})), 400, "messages[0].content[0].tool_use_id"),
        (user(json!({"type": "image", "source": {}})), 501, "messages[0].content[0]"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, call("t2"), result(json!({}))]}),
            400,
            "messages[2].content[0].tool_use_id",
        ),
        (json!({"system": [{"type": "image"}]}), 501, "system[0]"),
        (json!({"temperature": "hot"}), 400, "temperature"),
        (json!({"stop_sequences": [1]}), 400, "stop_sequences"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), 400, "tools[0].type"),
        (json!({"tool_choice": {"type": "some"}}), 400, "tool_choice.type"),
        (json!({"tool_choice": {"type": "tool"}}), 400, "tool_choice.name"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 40}}), 400, "thinking.budget_tokens"),
        (json!({"thinking": {"type": "often"}}), 400, "thinking.type"),
        (json!({"output_config": {"effort": "huge"}}), 400, "output_config.effort"),
        (json!({"output_format": {"type": "xml"}}), 400, "output_format.type"),
        (json!({"mcp_servers": [{"url": "x"}]}), 400, "mcp_servers"),
        (json!({"context_management": {"edits": [{"type": "clear_tool_uses"}]}}), 400, "context_management"),
        (json!({"stream": "yes"}), 400, "stream"),
        (json!({"model": "claude-5"}), 404, "claude-5"),
    ] {
        for stream in [false, true] {
            let mut body = with(ask("x"), fields.clone());
            if stream && body["stream"].is_null() {
                body["stream"] = true.into();
            }
            let response = post(MESSAGES, &body);
            let error = response.json(status);
            let kind = match status {
                400 => "invalid_request_error",
                404 => "not_found_error",
                _ => "api_error",
            };
            assert_eq!(
                (&error["type"], &error["error"]["type"]),
                (&json!("error"), &json!(kind)),
                "{fields}"
            );
            assert!(error["error"]["message"].as_str().unwrap().contains(path), "{fields}: {error}");
            assert_eq!(error["request_id"].as_str(), response.header("request-id"));
        }
    }
}

#[test]
fn neutral_and_unknown_fields_are_accepted() {
    let fields = json!({"metadata": {"user_id": "x"}, "service_tier": "auto", "mcp_servers": [], "container": null,
        "thinking": {"type": "disabled"}, "tools": [], "tool_choice": {"type": "auto"}, "no_such_field": 1,
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    assert_eq!(text(&post(MESSAGES, &with(ask("What is 347 + 285?"), fields)).json(200)), "632");
}

#[test]
fn other_errors_have_anthropics_shape_too() {
    for (method, path, headers, status, kind) in [
        ("GET", MESSAGES, "", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", JSON, 404, "not_found_error"),
        ("POST", MESSAGES, "Content-Type: text/plain\r\n", 415, "invalid_request_error"),
        ("POST", MESSAGES, JSON, 400, "invalid_request_error"),
    ] {
        let error = request(*SHARED, method, path, headers, "").json(status);
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!(kind)));
    }
    let long = post(MESSAGES, &with(ask(&"word ".repeat(2000)), json!({"stream": true}))).json(400);
    assert!(long["error"]["message"].as_str().unwrap().contains("context length"), "{long}");
}
