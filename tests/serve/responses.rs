//! OpenAI's responses: whole and streamed, kept and forgotten.

use rfgraph::serve::{ApiKey, ServeOptions};
use serde_json::{Value, json};

use crate::client::{JSON, SHARED, engine_options, get, post, request, start};
use crate::named_events::{named_events, types};

const RESPONSES: &str = "/v1/responses";

fn ask(question: &str) -> Value {
    json!({"model": "demo", "temperature": 0, "input": question})
}

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn text(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter_map(|item| item["content"].as_array()).flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

fn count(body: &Value) -> u64 {
    let answer = post("/v1/responses/input_tokens", body).json(200);
    assert_eq!(answer["object"], "response.input_tokens");
    answer["input_tokens"].as_u64().unwrap()
}

#[test]
fn a_text_is_answered() {
    let body = with(ask("What is 347 + 285?"), json!({"metadata": {"a": "b"}, "max_output_tokens": 50}));
    let response = post(RESPONSES, &body).json(200);
    assert_eq!(text(&response), "632");
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    let item = &response["output"][0];
    assert!(item["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&item["type"], &item["status"]), (&json!("message"), &json!("completed")));
    assert_eq!(item["content"][0]["type"], "output_text");
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("completed")));
    assert_eq!((&response["error"], &response["incomplete_details"]), (&Value::Null, &Value::Null));
    assert_eq!((&response["metadata"]["a"], &response["max_output_tokens"]), (&json!("b"), &json!(50)));
    let usage = &response["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(21), &json!(3)));
    assert_eq!(usage["total_tokens"], 24);
    assert_eq!(count(&body), 21);
}

#[test]
fn a_stream_has_the_events_in_order() {
    let response = post(RESPONSES, &with(ask("What is 347 + 285?"), json!({"stream": true})));
    assert!(!response.body.contains("[DONE]"));
    let events = named_events(&response);
    assert_eq!(
        types(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n);
    }
    let ids: Vec<&Value> = events.iter().filter_map(|event| event.pointer("/response/id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let items: Vec<&Value> = events.iter().filter_map(|event| event.get("item_id")).collect();
    assert!(items.iter().all(|id| **id == events[2]["item"]["id"]));
    assert_eq!(get(&format!("{RESPONSES}/{}", ids[0].as_str().unwrap())).json(200), events[10]["response"]);
}

#[test]
fn a_stream_adds_up_to_the_whole_response() {
    for seed in [1, 2, 3] {
        let fields =
            json!({"temperature": 1.0, "seed": seed, "max_output_tokens": 40, "cache_prompt": false});
        let body = with(ask("Tell me a story."), fields);
        let whole = post(RESPONSES, &body).json(200);
        let events = named_events(&post(RESPONSES, &with(body, json!({"stream": true}))));
        let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(deltas, text(&whole));
        let last = &events.last().unwrap()["response"];
        assert_eq!(text(last), text(&whole));
        for name in ["status", "usage", "incomplete_details"] {
            assert_eq!(last[name], whole[name]);
        }
    }
}

#[test]
fn a_limit_makes_a_response_incomplete() {
    let body = with(ask("What is 347 + 285?"), json!({"max_output_tokens": 2}));
    let response = post(RESPONSES, &body).json(200);
    assert_eq!((text(&response), &response["status"]), ("63".into(), &json!("incomplete")));
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["output"][0]["status"], "incomplete");
    let events = named_events(&post(RESPONSES, &with(body, json!({"stream": true}))));
    assert_eq!(types(&events).last(), Some(&"incomplete"));
}

#[test]
fn a_previous_response_is_the_beginning_of_the_next_prompt() {
    let first = post(RESPONSES, &with(ask("What is 347 + 285?"), json!({"instructions": "Be brief."})));
    let first = first.json(200);
    let items = json!([{"role": "user", "content": "What is 347 + 285?"},
        {"role": "assistant", "content": text(&first)}, {"role": "user", "content": "And 1 + 1?"}]);
    let next = with(ask("And 1 + 1?"), json!({"previous_response_id": first["id"]}));
    let whole = with(ask(""), json!({ "input": items }));
    assert_eq!(count(&next), count(&whole), "the instructions of the first are not carried on");
    let second = post(RESPONSES, &next).json(200);
    assert_eq!(text(&second), text(&post(RESPONSES, &whole).json(200)));
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = with(ask("Why?"), json!({"previous_response_id": second["id"]}));
    assert!(count(&third) > count(&next));
}

#[test]
fn responses_are_kept_until_they_are_deleted() {
    let kept = post(RESPONSES, &ask("What is 1 + 1?")).json(200);
    let path = format!("{RESPONSES}/{}", kept["id"].as_str().unwrap());
    assert_eq!(get(&path).json(200), kept);
    let deleted = request(*SHARED, "DELETE", &path, "", "").json(200);
    assert_eq!((&deleted["id"], &deleted["deleted"]), (&kept["id"], &json!(true)));
    assert_eq!(get(&path).json(404)["error"]["type"], "not_found_error");
    assert_eq!(request(*SHARED, "DELETE", &path, "", "").status, 404);
    let next = with(ask("x"), json!({"previous_response_id": kept["id"]}));
    assert_eq!(post(RESPONSES, &next).json(400)["error"]["param"], "previous_response_id");
    let loose = post(RESPONSES, &with(ask("What is 1 + 1?"), json!({"store": false}))).json(200);
    assert_eq!(get(&format!("{RESPONSES}/{}", loose["id"].as_str().unwrap())).status, 404);
}

#[test]
fn a_key_does_not_see_the_responses_of_another() {
    let keys = vec![ApiKey::new("one", "first"), ApiKey::new("two", "second")];
    let server = start(ServeOptions { keys, ..ServeOptions::default() }, engine_options());
    let call = |method: &str, path: &str, key: &str, body: &str| {
        request(server.address(), method, path, &format!("{JSON}Authorization: Bearer {key}\r\n"), body)
    };
    let kept = call("POST", RESPONSES, "first", &ask("What is 1 + 1?").to_string()).json(200);
    let path = format!("{RESPONSES}/{}", kept["id"].as_str().unwrap());
    assert_eq!(call("GET", &path, "second", "").status, 404);
    assert_eq!(call("DELETE", &path, "second", "").status, 404);
    let next = with(ask("x"), json!({"previous_response_id": kept["id"]})).to_string();
    assert_eq!(call("POST", RESPONSES, "second", &next).status, 400);
    assert_eq!(call("POST", RESPONSES, "first", &next).status, 200);
    assert_eq!(call("GET", &path, "first", "").status, 200);
    server.stop();
}

#[test]
fn schemas_hold() {
    let schema = json!({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "s", "schema": schema, "strict": true});
    let body = with(ask("What is 347 + 285?"), json!({"text": {"format": format}, "max_output_tokens": 60}));
    let value: Value = serde_json::from_str(&text(&post(RESPONSES, &body).json(200))).unwrap();
    assert!(value["sum"].is_i64(), "{value}");
}

#[test]
fn wrong_fields_are_named() {
    for (fields, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"instructions": 5}), "instructions"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"include": ["message.output_text.logprobs"]}), "include"),
        (json!({"previous_response_id": "resp_x"}), "previous_response_id"),
        (json!({"store": "yes"}), "store"),
        (json!({"tools": {}}), "tools"),
        (json!({"tools": [{"type": "function"}]}), "tools[0]"),
        (json!({"tools": [{"name": "x"}]}), "tools[0].type"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (json!({"text": {"format": {"type": "yaml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_object"}}, "grammar": "start: \"a\""}), "grammar"),
        (json!({"temperature": "hot"}), "temperature"),
    ] {
        for stream in [false, true] {
            let error = post(RESPONSES, &with(ask("x"), with(fields.clone(), json!({"stream": stream}))));
            let error = error.json(400);
            assert_eq!(error["error"]["param"], param, "{fields}: {error}");
        }
    }
    let picture =
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]});
    assert_eq!(post(RESPONSES, &with(ask("x"), picture)).json(501)["error"]["type"], "not_supported_error");
}

/// Codex sends tools of its own kinds, and asks for encrypted thoughts.
#[test]
fn the_fields_of_codex_are_accepted() {
    let fields = json!({"store": false, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "x",
        "parallel_tool_calls": false, "reasoning": {"effort": "medium", "summary": "auto"},
        "tools": [{"type": "custom", "name": "apply_patch"}, {"type": "namespace", "tools": []},
            {"type": "web_search"}, {"type": "image_generation"}], "tool_choice": "auto",
        "text": {"verbosity": "low"}, "stream_options": {"include_obfuscation": false}});
    assert_eq!(text(&post(RESPONSES, &with(ask("What is 347 + 285?"), fields)).json(200)), "632");
}
