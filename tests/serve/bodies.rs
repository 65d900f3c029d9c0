//! Any body: never a status above 499 (but 501 by name), never a panic, never a hang.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::client::{JSON, SHARED, post, request};

/// Fields that the interfaces know, so that values reach their checks.
const FIELDS: &[&str] = &[
    "messages",
    "prompt",
    "input",
    "model",
    "stream",
    "stream_options",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "n_predict",
    "stop",
    "seed",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "json_schema",
    "grammar",
    "tools",
    "tool_choice",
    "samplers",
    "mirostat",
    "mirostat_tau",
    "repeat_last_n",
    "repeat_penalty",
    "dry_multiplier",
    "dry_sequence_breakers",
    "xtc_probability",
    "typical_p",
    "dynatemp_range",
    "min_keep",
    "cache_salt",
    "echo",
    "structured_outputs",
    "reasoning_effort",
    "chat_template_kwargs",
    "continue_final_message",
    "encoding_format",
    "dimensions",
    "ignore_eos",
    "presence_penalty",
    "frequency_penalty",
    "top_n_sigma",
    "suffix",
    "content",
    "tokens",
    "n_probs",
    "n_cmpl",
    "response_fields",
    "embd_normalize",
    "add_special",
    "options",
    "format",
    "think",
    "keep_alive",
    "context",
    "raw",
    "images",
    "truncate",
    "system",
    "thinking",
    "output_config",
    "context_management",
    "stop_sequences",
    "instructions",
    "text",
    "reasoning",
    "previous_response_id",
    "max_output_tokens",
    "include",
];

fn any_json() -> impl Strategy<Value = Value> {
    let numbers = prop::sample::select(vec![
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(0.5),
        json!(1e308),
        json!(-1e308),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(4294967295u64),
        json!(1e-320),
        json!(32),
        json!(-2147483648i64),
    ]);
    let texts = prop::sample::select(vec![
        "",
        "x",
        "user",
        "assistant",
        "text",
        "json_object",
        "<|im_end|>",
        "\u{0}\u{10FFFF}",
        "start: /a*/",
        "root ::= \"a\"",
        "high",
        "required",
        "base64",
        "demo",
        "function_call",
        "function_call_output",
        "reasoning",
        "tool_use",
        "tool_result",
        "thinking",
        "enabled",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        numbers,
        texts.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let keys = prop::sample::select(vec![
            "role",
            "content",
            "type",
            "text",
            "function",
            "name",
            "parameters",
            "schema",
            "include_usage",
            "json",
            "choice",
            "regex",
            "1",
            "x",
            "arguments",
            "tool_calls",
            "id",
            "tool_use_id",
            "input",
            "thinking",
            "call_id",
            "output",
            "summary",
            "effort",
            "format",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..5).prop_map(|fields| {
                fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<Map<_, _>>().into()
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = Value> {
    let message = json!([{"role": "user", "content": "What is 1 + 1?"}]);
    let fields = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), any_json()), 0..5);
    fields.prop_map(move |fields| {
        let mut body = json!({"model": "demo", "messages": message, "prompt": "Once", "input": "Once",
            "content": "Once", "max_tokens": 4, "options": {"num_predict": 4}});
        for (name, value) in fields {
            body[name] = value;
        }
        if body.get("max_tokens").is_none_or(|n| n.as_i64().is_none_or(|n| n > 8)) {
            body["n_predict"] = json!(4);
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_body_is_answered_or_refused(body in body(), path in prop::sample::select(vec![
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/chat/completions/input_tokens",
        "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/responses/input_tokens", "/completion",
        "/infill", "/embedding", "/tokenize", "/detokenize", "/apply-template", "/api/chat", "/api/generate", "/api/embed",
        "/api/embeddings", "/api/show",
    ])) {
        let response = post(path, &body);
        prop_assert!(response.status < 500 || response.status == 501, "{path} {body}: {}", response.body);
        if response.status >= 400 {
            let error: Value = serde_json::from_str(&response.body).unwrap();
            let message = if path.starts_with("/api/") { &error["error"] } else { &error["error"]["message"] };
            prop_assert!(message.as_str().is_some_and(|text| !text.is_empty()));
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in ".{0,60}") {
        let response = request(*SHARED, "POST", "/v1/chat/completions", JSON, &bytes);
        prop_assert_eq!(response.status, 400);
    }
}

/// Every field with every edge of a number.
#[test]
fn numbers_at_their_edges_are_answered_or_refused() {
    let edges = [
        "0",
        "-1",
        "1e999",
        "-0.0",
        "1e-400",
        "9007199254740993",
        "18446744073709551615",
        "-9223372036854775808",
        "2147483648",
        "0.1e1",
        "1e400",
        "\"1\"",
        "true",
        "[]",
        "{}",
    ];
    for field in FIELDS.iter().filter(|field| !matches!(**field, "messages" | "prompt" | "input")) {
        for edge in edges {
            let body = format!(
                "{{\"messages\": [{{\"role\": \"user\", \"content\": \"x\"}}], \"n_predict\": 2, \"{field}\": {edge}}}"
            );
            let response = request(*SHARED, "POST", "/v1/chat/completions", JSON, &body);
            assert!(response.status < 500 || response.status == 501, "{body}: {}", response.body);
        }
    }
}
