//! Calls of tools: chosen, enforced, streamed. The demo model knows none, so that only enforcement makes calls.

use std::net::SocketAddr;
use std::sync::LazyLock;

use rfgraph::serve::ServeOptions;
use rfgraph::{EngineOptions, SessionOptions};
use serde_json::{Value, json};

use crate::client::{Response, engine_options, post_to, start};

const CHAT: &str = "/v1/chat/completions";

/// A server with room for the text that describes two tools, which takes the demo's letters many tokens.
static ROOMY: LazyLock<SocketAddr> = LazyLock::new(|| {
    let session =
        SessionOptions { n_ctx: 1536, n_sequences: 4, n_tokens: Some(4 * 1536), ..engine_options().session };
    let server = start(ServeOptions::default(), EngineOptions { session, ..engine_options() });
    let address = server.address();
    // It serves until the process ends.
    std::mem::forget(server);
    address
});

fn post(path: &str, body: &Value) -> Response {
    post_to(*ROOMY, path, body)
}

fn tools() -> Value {
    let add = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99},
        "b": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a", "b"], "additionalProperties": false});
    let find = json!({"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}}, "required": ["kind"],
        "additionalProperties": false});
    json!([
        {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": add}},
        {"type": "function", "function": {"name": "find", "parameters": find}},
        {"type": "web_search"},
    ])
}

fn ask(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "What is 12 + 7?"}], "tools": tools(),
        "max_tokens": 600, "seed": 3});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Asserts that the calls of an answer are whole, and returns their names.
fn names(calls: &Value) -> Vec<String> {
    let one = |call: &Value| {
        assert_eq!(call["type"], "function");
        assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()), "{call}");
        let name = call["function"]["name"].as_str().unwrap().to_string();
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        match name.as_str() {
            "add" => {
                assert!(["a", "b"].iter().all(|key| (0..100).contains(&arguments[key].as_i64().unwrap())))
            }
            "find" => assert!(arguments["kind"] == "cat" || arguments["kind"] == "dog"),
            _ => panic!("{name} is no tool"),
        }
        name
    };
    calls.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn required_and_named_calls_are_enforced() {
    for (choice, allowed) in [
        (json!("required"), vec!["add", "find"]),
        (json!({"type": "function", "function": {"name": "find"}}), vec!["find"]),
        (json!({"type": "function", "function": {"name": "add"}}), vec!["add"]),
    ] {
        for temperature in [0.0, 1.5] {
            let fields =
                json!({"tool_choice": choice, "temperature": temperature, "parallel_tool_calls": false});
            let answer = post(CHAT, &ask(fields)).json(200);
            let found = &answer["choices"][0];
            let names = names(&found["message"]["tool_calls"]);
            assert_eq!(names.len(), 1, "{found}");
            assert!(allowed.contains(&names[0].as_str()), "{names:?}");
            assert_eq!(
                (&found["finish_reason"], &found["message"]["content"]),
                (&json!("tool_calls"), &Value::Null)
            );
        }
    }
}

#[test]
fn streamed_calls_are_the_whole_ones() {
    let fields = json!({"tool_choice": "required", "temperature": 1.0, "parallel_tool_calls": false});
    let whole = post(CHAT, &ask(fields.clone())).json(200);
    let mut body = ask(fields);
    body["stream"] = true.into();
    let events = post(CHAT, &body).events();
    let mut calls: Vec<(String, String)> = Vec::new();
    let mut n_pieces = 0;
    for piece in events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()) {
        for call in piece {
            let index = call["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert_eq!((call["type"].as_str(), call["id"].is_string()), (Some("function"), true));
                calls.push((call["function"]["name"].as_str().unwrap().into(), String::new()));
            } else {
                assert!(call.get("id").is_none() && call["function"].get("name").is_none(), "{call}");
            }
            calls[index].1.push_str(call["function"]["arguments"].as_str().unwrap());
            n_pieces += 1;
        }
    }
    let function = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(
        calls,
        [(function["name"].as_str().unwrap().into(), function["arguments"].as_str().unwrap().into())]
    );
    assert!(n_pieces > 4, "the arguments came in {n_pieces} pieces");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

/// The pieces of an answer that is cut are those of the whole answer that is cut there.
#[test]
fn a_call_that_is_cut_is_the_same_streamed_and_whole() {
    let mut n = 0;
    for most in (20..80).step_by(4) {
        let fields = json!({"tool_choice": {"type": "function", "function": {"name": "add"}}, "temperature": 1.0,
            "max_tokens": most, "parallel_tool_calls": false});
        let whole = post(CHAT, &ask(fields.clone())).json(200);
        let whole = &whole["choices"][0];
        let mut body = ask(fields);
        body["stream"] = true.into();
        let events = post(CHAT, &body).events();
        let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
        let pieces = deltas().filter_map(|delta| delta["tool_calls"][0]["function"]["arguments"].as_str());
        let arguments: String = pieces.collect();
        let text: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
        let expected = whole["message"]["tool_calls"][0]["function"]["arguments"].as_str();
        assert_eq!(arguments, expected.unwrap_or_default(), "{whole}");
        assert_eq!(text, whole["message"]["content"].as_str().unwrap_or_default(), "{whole}");
        let is_cut = whole["finish_reason"] == "length" && expected.is_some_and(|text| !text.ends_with('}'));
        n += usize::from(is_cut);
    }
    assert!(n > 0, "no call was cut in its arguments");
}

#[test]
fn only_allowed_tools_are_called() {
    let allowed = |mode: &str, name: &str| {
        let tool = json!({"type": "function", "function": {"name": name}});
        json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [tool]}},
            "temperature": 1.5, "parallel_tool_calls": false})
    };
    for name in ["add", "find"] {
        let answer = post(CHAT, &ask(allowed("required", name))).json(200);
        assert_eq!(names(&answer["choices"][0]["message"]["tool_calls"]), [name]);
        let answer = post(CHAT, &ask(allowed("auto", name))).json(200);
        let calls = &answer["choices"][0]["message"]["tool_calls"];
        assert!(calls.is_null() || names(calls).iter().all(|called| called == name), "{calls}");
    }
    assert!(
        post(CHAT, &ask(allowed("auto", "fly"))).json(400)["error"]["message"]
            .as_str()
            .unwrap()
            .contains("fly")
    );
    let error = post(CHAT, &ask(allowed("sometimes", "add"))).json(400);
    assert_eq!(error["error"]["param"], "tool_choice.allowed_tools.mode");
    let empty =
        json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}});
    assert_eq!(post(CHAT, &ask(empty)).json(400)["error"]["param"], "tool_choice.allowed_tools.tools");
}

#[test]
fn no_call_is_made_without_tools_or_with_none() {
    let none = post(CHAT, &ask(json!({"tool_choice": "none", "temperature": 0}))).json(200);
    assert_eq!(none["choices"][0]["message"]["content"], "19");
    let auto = post(CHAT, &ask(json!({"temperature": 0}))).json(200);
    assert!(
        auto["choices"][0]["message"]["tool_calls"].is_null()
            || !names(&auto["choices"][0]["message"]["tool_calls"]).is_empty()
    );
    let error = post(CHAT, &ask(json!({"tools": [], "tool_choice": "required"}))).json(400);
    assert_eq!(error["error"]["param"], "tool_choice");
}

#[test]
fn wrong_tools_are_named() {
    let tool = |name: &str, parameters: Value| json!([{"type": "function", "function": {"name": name, "parameters": parameters}}]);
    for tools in [
        tool("x y", json!({})),
        tool("x", json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=a)b"}}})),
        json!([{"type": "function"}]),
    ] {
        let error = post(CHAT, &ask(json!({"tools": tools, "tool_choice": "required"}))).json(400);
        assert!(error["error"]["param"].as_str().unwrap().starts_with("tools"), "{error}");
    }
    let unknown = json!({"tool_choice": {"type": "function", "function": {"name": "fly"}}});
    assert!(post(CHAT, &ask(unknown)).json(400)["error"]["message"].as_str().unwrap().contains("fly"));
    let many: Vec<Value> =
        (0..129).map(|i| json!({"type": "function", "function": {"name": format!("t{i}")}})).collect();
    assert_eq!(post(CHAT, &ask(json!({"tools": many}))).json(400)["error"]["param"], "tools");
    let both = json!({"response_format": {"type": "json_object"}});
    assert_eq!(post(CHAT, &ask(both)).json(400)["error"]["param"], "response_format");
}

#[test]
fn results_of_tools_are_in_the_prompt() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 12, \"b\": 7}"}});
    let messages = json!([
        {"role": "user", "content": "What is 12 + 7?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "nineteen"}]},
    ]);
    let response = post(CHAT, &ask(json!({"messages": messages, "max_tokens": 8})));
    // The demo's template knows no calls: it answers, or says that it leaves a message out, but drops nothing.
    assert!([200, 400].contains(&response.status), "{}", response.body);
    if response.status == 400 {
        assert!(response.body.contains("leaves out"), "{}", response.body);
    }
}
