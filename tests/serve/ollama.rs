//! ollama's interface.

use rfgraph::gguf::Value as Meta;
use rfgraph::serve::ServeOptions;
use serde_json::{Value, json};

use crate::changed_model::{changed, serve};
use crate::client::{JSON, Response, SHARED, engine_options, get, post, post_to, request, start};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";
const SUM: &str = "What is 347 + 285?";

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn ask(fields: Value) -> Value {
    let messages = json!([{"role": "user", "content": SUM}]);
    with(json!({"model": "demo", "messages": messages, "options": {"temperature": 0}}), fields)
}

fn chat(fields: Value) -> Value {
    post(CHAT, &with(ask(json!({"stream": false})), fields)).json(200)
}

fn generate(fields: Value) -> Value {
    let body = json!({"model": "demo", "prompt": SUM, "options": {"temperature": 0}, "stream": false});
    post(GENERATE, &with(body, fields)).json(200)
}

#[track_caller]
fn lines(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    assert!(response.body.ends_with("}\n"));
    response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The error's text.
#[track_caller]
fn refused(path: &str, body: &Value, status: u16) -> String {
    let error = post(path, body).json(status);
    assert_eq!(error.as_object().unwrap().len(), 1, "{error}");
    error["error"].as_str().unwrap().to_string()
}

/// Times are other ones each time.
fn without_times(lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines {
        let mut line = line.clone();
        for (key, value) in line.as_object_mut().unwrap() {
            if key.ends_with("_duration") {
                assert!(value.is_u64(), "{key}: {value}");
                *value = "[time]".into();
            } else if key == "created_at" {
                let stamp = value.as_str().unwrap();
                assert!(stamp.len() == 27 && stamp.ends_with('Z') && stamp.starts_with("20"), "{stamp}");
                *value = "[time]".into();
            }
        }
        text += &format!("{line}\n");
    }
    text
}

#[test]
fn a_chat_streams_lines_by_default() {
    let streamed = lines(&post(CHAT, &ask(json!({}))));
    insta::assert_snapshot!("a_chat_in_lines", without_times(&streamed));
    let whole = chat(json!({}));
    assert_eq!(whole["message"], json!({"role": "assistant", "content": "632"}));
    let mut last = streamed.last().unwrap().clone();
    last["message"]["content"] = "632".into();
    assert_eq!(without_times(&[whole]), without_times(&[last]));
}

#[test]
fn a_prompt_is_answered_as_its_chat() {
    let whole = generate(json!({}));
    assert_eq!((&whole["response"], &whole["done_reason"]), (&json!("632"), &json!("stop")));
    assert_eq!(whole["prompt_eval_count"], chat(json!({}))["prompt_eval_count"]);
    let body = json!({"model": "demo", "prompt": SUM, "options": {"temperature": 0}});
    let streamed = lines(&post(GENERATE, &body));
    insta::assert_snapshot!("a_prompt_in_lines", without_times(&streamed));
    let joined: String = streamed.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(joined, "632");
    assert_eq!(streamed.last().unwrap()["context"], whole["context"]);
    assert!(streamed[..streamed.len() - 1].iter().all(|line| line.get("context").is_none()));
}

#[test]
fn a_context_goes_on() {
    let first = generate(json!({}));
    let context = first["context"].as_array().unwrap();
    let text = post("/detokenize", &json!({ "tokens": context })).json(200)["content"].clone();
    let text = text.as_str().unwrap();
    assert!(text.contains(SUM) && text.ends_with("632"), "{text}");
    let second = generate(json!({"prompt": "What is 12 + 7?", "context": context}));
    let alone = generate(json!({"prompt": "What is 12 + 7?"}));
    let counts = [&second, &alone].map(|answer| answer["prompt_eval_count"].as_u64().unwrap());
    // The token that begins every text is there once.
    assert_eq!(counts[0] + 1, counts[1] + context.len() as u64);
    assert!(second["context"].as_array().unwrap().starts_with(context));
    let error = refused(GENERATE, &json!({"model": "demo", "prompt": "x", "context": [999_999]}), 400);
    assert!(error.contains("999999"), "{error}");
}

#[test]
fn raw_prompts_have_no_template() {
    let raw = generate(
        json!({"prompt": "Once upon a time", "raw": true, "options": {"temperature": 0, "num_predict": 9}}),
    );
    let plain = json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 9});
    let plain = post("/completion", &plain).json(200);
    assert_eq!((&raw["response"], &raw["done_reason"]), (&plain["content"], &json!("length")));
    assert_eq!(raw["eval_count"], 9);
    assert!(raw.get("context").is_none());
    let system = json!({"model": "demo", "prompt": "x", "raw": true, "system": "Be brief."});
    refused(GENERATE, &system, 400);
}

#[test]
fn system_texts_are_in_the_prompt() {
    let answer = generate(json!({"system": "You are a calculator."}));
    let text = post("/detokenize", &json!({"tokens": answer["context"]})).json(200);
    assert!(text["content"].as_str().unwrap().contains("You are a calculator."), "{text}");
}

#[test]
fn models_have_their_names_with_and_without_latest() {
    for name in ["demo", "demo:latest", "little", "little:latest"] {
        let answer = chat(json!({ "model": name }));
        assert_eq!((&answer["model"], &answer["message"]["content"]), (&json!(name), &json!("632")));
    }
    for (path, fields) in [
        (CHAT, json!({"messages": [{"role": "user", "content": "x"}]})),
        (GENERATE, json!({"prompt": "x"})),
        ("/api/embed", json!({"input": "x"})),
        ("/api/embeddings", json!({"prompt": "x"})),
        ("/api/show", json!({})),
    ] {
        for name in ["demo:7b", "other", "other:latest", "demo:latest:latest"] {
            let error = refused(path, &with(fields.clone(), json!({ "model": name })), 404);
            assert_eq!(error, format!("model '{name}' not found"));
        }
        assert_eq!(refused(path, &fields, 400), "model is required");
        refused(path, &with(fields, json!({"model": 7})), 400);
    }
}

#[test]
fn a_format_is_kept() {
    let schema = json!({"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
        "additionalProperties": false});
    for body in [chat(json!({"format": schema})), generate(json!({ "format": schema }))] {
        let text = body["message"]["content"].as_str().or(body["response"].as_str()).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(value["sum"].is_i64(), "{text}");
    }
    let options = json!({"temperature": 0, "num_predict": 5});
    let json = chat(json!({"format": "json", "options": options}));
    assert!(json["message"]["content"].as_str().unwrap().trim_start().starts_with('{'), "{json}");
    assert_eq!(chat(json!({"format": ""}))["message"]["content"], "632");
    for wrong in [json!("yaml"), json!(7), json!({"type": "string", "pattern": "(?=a)"})] {
        refused(CHAT, &ask(json!({ "format": wrong })), 400);
    }
}

#[test]
fn options_are_obeyed_or_refused() {
    let story = |options: Value| generate(json!({"prompt": "Tell me a story.", "options": options}));
    let warm =
        |seed: i64| story(json!({"temperature": 1.2, "seed": seed, "num_predict": 20}))["response"].clone();
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
    let text = story(json!({"temperature": 0, "num_predict": 20}))["response"].as_str().unwrap().to_string();
    let word = text.split_whitespace().nth(3).unwrap();
    let stopped = story(json!({"temperature": 0, "num_predict": 20, "stop": [word]}));
    assert_eq!(
        (stopped["response"].as_str(), &stopped["done_reason"]),
        (text.split(word).next(), &json!("stop"))
    );
    let loading = json!({"temperature": 0, "num_ctx": 8192, "num_gpu": 99, "num_thread": 4, "unknown": 1});
    assert_eq!(chat(json!({"options": loading, "keep_alive": "5m"}))["message"]["content"], "632");
    assert_eq!(chat(json!({"keep_alive": -1}))["message"]["content"], "632");
    for (wrong, name) in [
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"num_predict": "x"}), "num_predict"),
        (json!({"num_ctx": "large"}), "num_ctx"),
        (json!({"mirostat": 1}), "mirostat"),
        (json!({"tfs_z": 0.5}), "tfs_z"),
        (json!({"penalize_newline": false}), "penalize_newline"),
        (json!(7), "options"),
    ] {
        let error = refused(CHAT, &ask(json!({ "options": wrong })), 400);
        assert!(error.contains(name), "{error}");
    }
    refused(CHAT, &ask(json!({"keep_alive": true})), 400);
}

#[test]
fn abilities_that_a_model_lacks_are_refused_by_name() {
    assert_eq!(refused(CHAT, &ask(json!({"think": true})), 400), "\"demo\" does not support thinking");
    assert_eq!(chat(json!({"think": false, "tools": []}))["message"]["content"], "632");
    let insert = json!({"model": "demo", "prompt": "a", "suffix": "b"});
    assert_eq!(refused(GENERATE, &insert, 400), "\"demo\" does not support insert");
    let picture = json!([{"role": "user", "content": "What is it?", "images": ["aGVsbG8="]}]);
    let error = refused(CHAT, &ask(json!({ "messages": picture })), 501);
    assert!(error.contains("messages[0].images"), "{error}");
    refused(GENERATE, &json!({"model": "demo", "prompt": "x", "images": ["aGVsbG8="]}), 501);
    refused(GENERATE, &json!({"model": "demo", "prompt": "x", "template": "{{ .Prompt }}"}), 400);
    refused(CHAT, &ask(json!({"messages": [{"role": "boss", "content": "x"}]})), 400);
    let long = "word ".repeat(2000);
    let error = refused(CHAT, &ask(json!({"messages": [{"role": "user", "content": long}]})), 400);
    assert!(error.contains("context length"), "{error}");
}

/// A template that writes out what it is given.
const TELLING: &str = "{% if tools %}tools={{ tools | tojson }}\n{% endif %}\
    {% if enable_thinking is defined %}think={{ enable_thinking }} {{ reasoning_effort }}\n{% endif %}\
    {% for message in messages %}<|im_start|>{{ message.role }}\n\
    {% if message.thinking %}<think>{{ message.thinking }}</think>{% endif %}{{ message.content }}\
    {% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\
    {% if message.role == 'tool' %}result of {{ message.name }}{% endif %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn thoughts_and_tools_reach_the_template() {
    let template = ("tokenizer.chat_template", Meta::from(TELLING));
    let server = serve(&changed(&[template]), ServeOptions::default());
    let show = post_to(server.address(), "/api/show", &json!({"model": "demo"})).json(200);
    assert_eq!(show["capabilities"], json!(["completion", "tools", "thinking"]));

    let prompt = |think: Value| {
        let body = json!({"model": "demo", "prompt": "Hi", "stream": false, "think": think,
            "options": {"num_predict": 1}});
        let answer = post_to(server.address(), GENERATE, &body).json(200);
        let tokens = json!({"tokens": answer["context"]});
        post("/detokenize", &tokens).json(200)["content"].as_str().unwrap().to_lowercase()
    };
    assert!(prompt(json!("high")).starts_with(&format!("<|endoftext|>{}", "think=true high\n")));
    assert!(prompt(json!(true)).starts_with(&format!("<|endoftext|>{}", "think=true")));
    assert!(prompt(json!(false)).starts_with(&format!("<|endoftext|>{}", "think=false")));
    assert!(prompt(Value::Null).starts_with(&format!("<|endoftext|>{}", "<|im_start|>user")));
    post_to(server.address(), CHAT, &ask(json!({"think": "loud"}))).json(400);

    // The counts of tokens say which prompt was computed: that of OpenAI's form with the same texts.
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]);
    let call = json!({"name": "add", "arguments": {"a": 1}});
    let own = json!({"model": "demo", "stream": false, "options": {"num_predict": 1}, "tools": tools, "messages": [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [{ "function": call }]},
        {"role": "tool", "content": "2", "tool_name": "add"},
    ]});
    let openai = json!({"model": "demo", "tools": tools, "messages": [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.",
            "tool_calls": [{"type": "function", "function": call}]},
        {"role": "tool", "content": "2", "name": "add"},
    ]});
    let shown = post_to(server.address(), "/apply-template", &openai).json(200)["prompt"].clone();
    for part in ["tools=[", "<think>Hm.</think>", "\"arguments\": {\"a\": 1}", "result of add"] {
        assert!(shown.as_str().unwrap().contains(part), "{part}: {shown}");
    }
    let answer = post_to(server.address(), CHAT, &own).json(200);
    let counted = post_to(server.address(), "/v1/chat/completions/input_tokens", &openai).json(200);
    assert_eq!(answer["prompt_eval_count"], counted["input_tokens"]);
    server.stop();
}

#[test]
fn probabilities_come_with_their_pieces() {
    let fields = json!({"logprobs": true, "top_logprobs": 3});
    let whole = chat(fields.clone());
    let entries = whole["logprobs"].as_array().unwrap();
    let text: String = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(text, "632");
    assert!(entries.iter().all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 3));
    let streamed = lines(&post(CHAT, &ask(fields)));
    let pieces: Vec<&Value> =
        streamed.iter().filter_map(|line| line["logprobs"].as_array()).flatten().collect();
    assert_eq!(pieces, entries.iter().collect::<Vec<_>>());
    assert!(chat(json!({})).get("logprobs").is_none());
    refused(CHAT, &ask(json!({"top_logprobs": 3})), 400);
}

#[test]
fn an_empty_request_only_loads() {
    for (path, body, key) in [
        (CHAT, json!({"model": "demo"}), "message"),
        (CHAT, json!({"model": "demo", "messages": [], "keep_alive": 0}), "message"),
        (GENERATE, json!({"model": "demo"}), "response"),
    ] {
        let line = post(path, &body).json(200);
        assert_eq!((&line["done"], &line["done_reason"]), (&json!(true), &json!("load")));
        assert!(line.get(key).is_some(), "{line}");
    }
}

#[test]
fn texts_are_embedded() {
    let embed = |fields: Value| post("/api/embed", &with(json!({"model": "demo"}), fields));
    let vector = |value: &Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let one = embed(json!({"input": "a little word"})).json(200);
    let unit = vector(&one["embeddings"][0]);
    assert!((norm(&unit) - 1.0).abs() < 1e-4);
    assert!(one["total_duration"].is_u64() && one["prompt_eval_count"].as_u64().unwrap() > 0);
    let two = embed(json!({"input": ["other", "a little word"]})).json(200);
    assert_eq!(vector(&two["embeddings"][1]), unit);
    assert_eq!(embed(json!({"input": []})).json(200)["embeddings"], json!([]));
    let few = vector(&embed(json!({"input": "a little word", "dimensions": 8})).json(200)["embeddings"][0]);
    assert!(few.len() == 8 && (norm(&few) - 1.0).abs() < 1e-4);
    let long = "word ".repeat(2000);
    assert_eq!(embed(json!({ "input": long })).json(200)["prompt_eval_count"], 512);
    embed(json!({"input": long, "truncate": false})).json(400);
    for wrong in
        [json!({}), json!({"input": 7}), json!({"input": [7]}), json!({"input": "x", "dimensions": 0})]
    {
        embed(wrong).json(400);
    }
    let old = json!({"model": "demo", "prompt": "a little word"});
    let old = vector(&post("/api/embeddings", &old).json(200)["embedding"]);
    assert!((norm(&old) - 1.0).abs() > 1e-3, "the older route does not normalize");
    assert!(old.iter().zip(&unit).all(|(a, b)| (a / norm(&old) - b).abs() < 1e-5));
    let nothing = json!({"model": "demo", "prompt": ""});
    assert_eq!(post("/api/embeddings", &nothing).json(200), json!({"embedding": []}));
}

#[test]
fn models_are_listed_and_shown() {
    let numbers: Vec<u32> = get("/api/version").json(200)["version"]
        .as_str()
        .unwrap()
        .split('.')
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(numbers >= vec![0, 6, 4], "VS Code refuses older ones: {numbers:?}");
    let tags = get("/api/tags").json(200);
    let model = &tags["models"][0];
    assert_eq!((&model["name"], &model["details"]["format"]), (&json!("demo"), &json!("gguf")));
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    assert!(model["size"].as_u64().unwrap() > 4_000_000);
    let running = get("/api/ps").json(200);
    assert_eq!(
        (&running["models"][0]["context_length"], &running["models"][0]["digest"]),
        (&json!(512), &model["digest"])
    );
    let show = post("/api/show", &json!({"model": "demo"})).json(200);
    assert_eq!(show["capabilities"], json!(["completion"]));
    assert!(show["parameters"].as_str().unwrap().contains("num_ctx 512\n"), "{show}");
    let info = &show["model_info"];
    let family = info["general.architecture"].as_str().unwrap();
    assert!(info[format!("{family}.context_length")].is_u64() && info["general.parameter_count"].is_u64());
    assert!(info["tokenizer.ggml.tokens"].is_null());
    let verbose = post("/api/show", &json!({"name": "demo:latest", "verbose": true})).json(200);
    assert!(verbose["model_info"]["tokenizer.ggml.tokens"].as_array().unwrap().len() > 100);
}

#[test]
fn absent_routes_say_so_and_the_sign_of_life_is_there() {
    for (method, path) in [("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/blobs/sha256:00")] {
        let error = request(*SHARED, method, path, "", "{\"model\": \"demo\"}").json(501);
        assert!(error["error"].as_str().unwrap().contains(path), "{error}");
    }
    // Allowed, but this server has one model that is given to it.
    let server = start(
        ServeOptions { allow_pull: true, allow_delete: true, ..ServeOptions::default() },
        engine_options(),
    );
    let body = json!({"model": "demo", "source": "demo", "destination": "other"}).to_string();
    for (method, path) in [("POST", "/api/pull"), ("POST", "/api/copy"), ("DELETE", "/api/delete")] {
        let error = request(server.address(), method, path, JSON, &body).json(501);
        assert_eq!(error["error"], "this server does not change its models");
    }
    let loaded = json!({"model": "demo", "keep_alive": 0, "stream": false});
    assert_eq!(post_to(server.address(), GENERATE, &loaded).json(200)["done_reason"], "load", "it stays");
    assert_eq!(post_to(server.address(), "/models/unload", &loaded).status, 400);
    server.stop();
    assert!(get("/api/nothing").json(404)["error"].is_string());
    assert!(get("/api/chat").json(405)["error"].is_string());
    let alive = request(*SHARED, "HEAD", "/", "Connection: close\r\n", "");
    assert_eq!((alive.status, alive.body.as_str()), (200, ""));
}
