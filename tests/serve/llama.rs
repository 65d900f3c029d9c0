//! llama-server's own interface.

use rfgraph::gguf::Value as Meta;
use rfgraph::serve::ServeOptions;
use rfgraph::{EngineOptions, SessionOptions};
use serde_json::{Value, json};

use crate::changed_model::{changed, serve};
use crate::client::{Connection, JSON, SHARED, engine_options, get, post, post_to, request, start};

const COMPLETION: &str = "/completion";

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn story(fields: Value) -> Value {
    with(json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 12}), fields)
}

fn complete(fields: Value) -> Value {
    post(COMPLETION, &story(fields)).json(200)
}

#[test]
fn a_completion_and_its_stream_are_alike() {
    let whole = complete(json!({"return_tokens": true}));
    let text = whole["content"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!((&whole["stop"], &whole["stop_type"]), (&json!(true), &json!("limit")));
    assert_eq!((&whole["tokens_predicted"], &whole["truncated"]), (&json!(12), &json!(false)));
    // As llama-server shows it, with the token that begins every text.
    assert_eq!(whole["prompt"], "<|endoftext|>Once upon a time");
    let timings = &whole["timings"];
    let computed = timings["prompt_n"].as_u64().unwrap() + timings["cache_n"].as_u64().unwrap();
    assert_eq!(whole["tokens_evaluated"], computed);
    let settings = &whole["generation_settings"];
    assert_eq!((&settings["n_predict"], &settings["temperature"]), (&json!(12), &json!(0.0)));
    let decoded = post("/detokenize", &json!({"tokens": whole["tokens"]})).json(200);
    assert_eq!(decoded["content"], whole["content"]);
    assert_eq!(complete(json!({}))["tokens"], json!([]), "tokens are given only if asked for");

    let streamed = post(COMPLETION, &story(json!({"stream": true})));
    assert!(!streamed.body.contains("[DONE]"));
    let events = streamed.events();
    let (last, pieces) = events.split_last().unwrap();
    let joined: String = pieces.iter().map(|piece| piece["content"].as_str().unwrap()).collect();
    assert_eq!(joined, text);
    assert!(pieces.iter().all(|piece| piece["stop"] == false));
    let tokens: Vec<&Value> = pieces.iter().flat_map(|piece| piece["tokens"].as_array().unwrap()).collect();
    assert_eq!(json!(tokens), whole["tokens"]);
    assert_eq!((&last["content"], &last["stop"], &last["tokens"]), (&json!(""), &json!(true), &json!([])));
    for same in ["stop_type", "tokens_predicted", "tokens_evaluated", "prompt", "has_new_line"] {
        assert_eq!(last[same], whole[same], "{same}");
    }
}

#[test]
fn answers_end_for_the_named_reason() {
    let text = complete(json!({}))["content"].as_str().unwrap().to_string();
    let word = text.split_whitespace().nth(3).unwrap();
    let stopped = complete(json!({"stop": ["never seen", word]}));
    assert_eq!((&stopped["stop_type"], &stopped["stopping_word"]), (&json!("word"), &json!(word)));
    assert_eq!(text.split(word).next().unwrap(), stopped["content"]);
    let ended = complete(json!({"grammar": "root ::= \"yes\"", "n_predict": -1}));
    assert_eq!((&ended["stop_type"], &ended["content"]), (&json!("eos"), &json!("yes")));
    assert_eq!(complete(json!({"n_predict": 0}))["tokens_predicted"], 0);
    // The shared server's context has 512 tokens.
    let full = complete(json!({"n_predict": -1, "ignore_eos": true}));
    assert_eq!((&full["stop_type"], &full["truncated"]), (&json!("limit"), &json!(true)));
    let n = full["tokens_evaluated"].as_u64().unwrap() + full["tokens_predicted"].as_u64().unwrap();
    assert!((512..=513).contains(&n), "{n}");
}

#[test]
fn probabilities_are_those_of_the_tokens() {
    let whole = complete(json!({"n_probs": 5, "return_tokens": true}));
    let entries = whole["completion_probabilities"].as_array().unwrap();
    let tokens: Vec<&Value> = entries.iter().map(|entry| &entry["id"]).collect();
    assert_eq!(json!(tokens), whole["tokens"]);
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        let logprobs: Vec<f64> = top.iter().map(|top| top["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.len() == 5 && logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        assert_eq!(top[0]["id"], entry["id"], "greedy answers take the most probable token");
    }
    let events = post(COMPLETION, &story(json!({"n_probs": 5, "stream": true}))).events();
    let pieces = events.iter().filter_map(|event| event["completion_probabilities"].as_array());
    assert_eq!(pieces.flatten().collect::<Vec<_>>(), entries.iter().collect::<Vec<_>>());
    assert!(complete(json!({})).get("completion_probabilities").is_none());
}

#[test]
fn response_fields_are_selected_and_unnested() {
    let fields = json!(["content", "generation_settings/n_predict", "timings/prompt_n", "nothing/there"]);
    let whole = complete(json!({ "response_fields": fields }));
    let keys: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["content", "generation_settings/n_predict", "timings/prompt_n"]);
    assert_eq!(whole["generation_settings/n_predict"], 12);
    let last = post(COMPLETION, &story(json!({"stream": true, "response_fields": ["stop"]}))).events();
    assert_eq!(*last.last().unwrap(), json!({"stop": true}));
    post(COMPLETION, &story(json!({"response_fields": [1]}))).json(400);
}

#[test]
fn several_prompts_and_choices_are_a_list() {
    let answers = complete(json!({"prompt": ["Once upon a time", "What", [10, 11]], "n_cmpl": 2}));
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 6);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer["index"], i);
        assert_eq!(answer["content"], answers[i / 2 * 2]["content"], "greedy choices are equal");
    }
    assert_eq!(answers[0]["content"], complete(json!({}))["content"]);
    assert!(complete(json!({"prompt": ["Once upon a time"]})).is_object());
}

#[test]
fn progress_and_times_come_with_pieces_if_asked() {
    let fields = json!({"stream": true, "return_progress": true, "timings_per_token": true});
    let events = post(COMPLETION, &story(fields)).events();
    let progress: Vec<&Value> = events.iter().filter_map(|event| event.get("prompt_progress")).collect();
    let last = progress.last().unwrap();
    assert_eq!(last["processed"], last["total"]);
    let predicted =
        events.iter().filter(|event| event["stop"] == false).filter_map(|event| event.get("timings"));
    let predicted: Vec<u64> = predicted.map(|timings| timings["predicted_n"].as_u64().unwrap()).collect();
    assert_eq!(predicted, (1..=12).collect::<Vec<_>>());
    let plain = post(COMPLETION, &story(json!({"stream": true}))).events();
    let asked = |event: &Value| event.get("prompt_progress").is_some();
    assert!(!plain.iter().any(asked));
}

#[test]
fn paths_without_v1_have_the_own_form() {
    let body = story(json!({"max_tokens": 4}));
    assert!(post("/completions", &body).json(200)["content"].is_string());
    assert!(post("/v1/completions", &body).json(200)["choices"].is_array());
    let input = json!({"input": "a word"});
    assert_eq!(post("/v1/embeddings", &input).json(200)["object"], "list");
    assert!(post("/embeddings", &input).json(200).is_array());
}

#[test]
fn tokens_become_the_text_again() {
    for text in ["", "Once upon a time", "  two spaces\n\tand a tab", "Grüße, Ωmega, 你好 🦀", "<|im_end|>"]
    {
        for parse_special in [true, false] {
            let body = json!({"content": text, "parse_special": parse_special, "with_pieces": true});
            let pieces = post("/tokenize", &body).json(200);
            let pieces = pieces["tokens"].as_array().unwrap().clone();
            let bytes = pieces.iter().flat_map(|token| match &token["piece"] {
                Value::String(text) => text.as_bytes().to_vec(),
                list => serde_json::from_value(list.clone()).unwrap(),
            });
            assert_eq!(String::from_utf8(bytes.collect()).unwrap(), text);
            let ids: Vec<&Value> = pieces.iter().map(|token| &token["id"]).collect();
            let body = json!({"content": text, "parse_special": parse_special});
            assert_eq!(post("/tokenize", &body).json(200)["tokens"], json!(ids));
            let decoded = post("/detokenize", &json!({ "tokens": ids })).json(200);
            assert_eq!(decoded["content"], text);
        }
    }
    let n = |parse_special: bool| {
        let body = json!({"content": "<|im_end|>", "parse_special": parse_special});
        post("/tokenize", &body).json(200)["tokens"].as_array().unwrap().len()
    };
    assert!(n(true) == 1 && n(false) > 1);
    let mixed = post("/tokenize", &json!({"content": ["Once", 10, " upon"]})).json(200);
    let once = post("/tokenize", &json!({"content": "Once"})).json(200)["tokens"].clone();
    assert!(mixed["tokens"].as_array().unwrap().starts_with(once.as_array().unwrap()));
    assert!(mixed["tokens"].as_array().unwrap().contains(&json!(10)));
}

#[test]
fn tokens_that_do_not_exist_are_refused() {
    let n_vocab = get("/v1/models").json(200)["data"][0]["meta"]["n_vocab"].as_u64().unwrap();
    post("/detokenize", &json!({"tokens": [n_vocab - 1]})).json(200);
    for wrong in [json!([n_vocab]), json!([-1]), json!([1.5]), json!(["1"]), json!([u64::MAX]), json!("x")] {
        let error = post("/detokenize", &json!({"tokens": wrong})).json(400);
        assert_eq!(error["error"]["param"], "tokens", "{wrong}");
    }
    post("/tokenize", &json!({"content": [n_vocab]})).json(400);
}

/// The prompt that `/apply-template` shows is the one that a chat computes.
#[test]
fn the_shown_prompt_is_the_computed_one() {
    let user = json!({"role": "user", "content": "What is 1 + 1?"});
    let begun = json!({"role": "assistant", "content": "It is"});
    for messages in [json!([user]), json!([user, begun])] {
        let body = json!({ "messages": messages });
        let prompt = post("/apply-template", &body).json(200)["prompt"].as_str().unwrap().to_string();
        let tokens = post("/tokenize", &json!({"content": prompt, "add_special": true})).json(200);
        let counted = post("/v1/chat/completions/input_tokens", &body).json(200);
        assert_eq!(counted["input_tokens"], tokens["tokens"].as_array().unwrap().len(), "{prompt:?}");
        let opens = prompt.ends_with("<|im_start|>assistant\n");
        assert!(opens || prompt.ends_with("It is"), "{prompt:?}");
    }
    assert_eq!(post("/apply-template", &json!({})).json(400)["error"]["type"], "invalid_request_error");
}

#[test]
fn properties_name_sizes_and_settings() {
    let props = get("/props").json(200);
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(32), &json!("demo")));
    let defaults = &props["default_generation_settings"];
    assert_eq!((&defaults["n_ctx"], &defaults["params"]["seed"]), (&json!(512), &json!(u32::MAX)));
    assert!(props["chat_template"].as_str().unwrap().contains("<|im_start|>"));
    // Settings of an answer without settings.
    let bare =
        post(COMPLETION, &json!({"prompt": "Once", "n_predict": -1, "grammar": "root ::= \"a\""})).json(200);
    for (name, value) in defaults["params"].as_object().unwrap().iter().filter(|(name, _)| *name != "seed") {
        assert_eq!(bare["generation_settings"][name], *value, "{name}");
    }
    let set = json!({"repeat_last_n": 7, "top_k": 3, "min_p": 0.25, "samplers": ["top_k", "min_p"]});
    let shown = complete(set.clone());
    for (name, value) in set.as_object().unwrap() {
        assert_eq!(shown["generation_settings"][name], *value, "{name}");
    }
}

#[test]
fn slots_show_the_running_requests() {
    let one = EngineOptions {
        session: SessionOptions { n_sequences: 1, ..engine_options().session },
        ..engine_options()
    };
    let server = start(ServeOptions::default(), one);
    let slots = |query: &str| request(server.address(), "GET", &format!("/slots{query}"), "", "");
    let idle = slots("?fail_on_no_slot=1").json(200);
    assert_eq!(idle.as_array().unwrap().len(), 1);
    assert_eq!((&idle[0]["is_processing"], &idle[0]["id_task"]), (&json!(false), &json!(-1)));
    let next = &idle[0]["next_token"][0];
    assert_eq!((&next["n_remain"], &next["n_decoded"]), (&json!(-1), &json!(0)));

    let mut busy = Connection::open(server.address());
    let body = story(json!({"stream": true, "n_predict": 400, "ignore_eos": true}));
    busy.send("POST", COMPLETION, JSON, &body.to_string());
    assert_eq!(busy.head().status, 200);
    busy.chunk();
    let running = slots("").json(200)[0].clone();
    assert_eq!((&running["is_processing"], &running["n_ctx"]), (&json!(true), &json!(512)));
    let next = &running["next_token"][0];
    let decoded = next["n_decoded"].as_u64().unwrap();
    assert_eq!((decoded + next["n_remain"].as_u64().unwrap(), &next["has_next_token"]), (400, &json!(true)));
    assert!(!running.to_string().contains("Once"), "prompts are other clients' business");
    assert_eq!(slots("?fail_on_no_slot=1").json(503)["error"]["type"], "unavailable_error");
    drop(busy);
    let start = std::time::Instant::now();
    while slots("").json(200)[0]["is_processing"] == true {
        assert!(start.elapsed().as_secs() < 2, "the slot of a client that left is not free after 2 s");
    }
    server.stop();

    let off = start_without_slots();
    request(off.address(), "GET", "/slots", "", "").json(501);
    off.stop();
}

fn start_without_slots() -> rfgraph::serve::Server {
    start(ServeOptions { slots: false, ..ServeOptions::default() }, engine_options())
}

#[test]
fn absent_routes_say_so() {
    for path in ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/slots/0?action=erase", "/props"] {
        let error = post(path, &json!({"query": "a", "documents": ["b"]})).json(501);
        assert_eq!(error["error"]["type"], "not_supported_error", "{path}");
    }
    assert_eq!(get("/lora-adapters").json(200), json!([]));
    request(*SHARED, "POST", "/lora-adapters", JSON, "[{\"id\": 0, \"scale\": 0.5}]").json(501);
    let picture = json!({"prompt": {"prompt_string": "What is it?", "multimodal_data": ["aGVsbG8="]}});
    assert_eq!(post(COMPLETION, &picture).json(501)["error"]["param"], "prompt");
}

#[test]
fn embeddings_have_the_wished_norm() {
    let embed = |fields: Value| {
        let answer = post("/embedding", &with(json!({"content": "a little word"}), fields)).json(200);
        serde_json::from_value::<Vec<f64>>(answer[0]["embedding"][0].clone()).unwrap()
    };
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (unit, raw) = (embed(json!({})), embed(json!({"embd_normalize": -1})));
    assert!((norm(&unit) - 1.0).abs() < 1e-4 && (norm(&raw) - 1.0).abs() > 1e-3, "{}", norm(&raw));
    let same = unit.iter().zip(&raw).all(|(a, b)| (a - b / norm(&raw)).abs() < 1e-5);
    assert!(same);
    let openai = post("/v1/embeddings", &json!({"input": "a little word"})).json(200);
    assert_eq!(openai["data"][0]["embedding"], json!(unit));
    assert_ne!(embed(json!({"pooling": "last"})), unit);
    let none = post("/embedding", &json!({"content": "a", "pooling": "none"})).json(400);
    assert_eq!(none["error"]["param"], "pooling");
    let several = post("/embedding", &json!({"content": ["a", "b", "c"]})).json(200);
    assert_eq!(several.as_array().unwrap().len(), 3);
}

#[test]
fn the_middle_is_filled_in_the_form_of_the_vocabulary() {
    let body = json!({"input_prefix": "fn a() {", "input_suffix": "}", "n_predict": 2, "temperature": 0});
    assert_eq!(post("/infill", &body).json(501)["error"]["type"], "not_supported_error");

    // Single characters serve as the tokens.
    let id = |character: &str| {
        let tokens = post("/tokenize", &json!({ "content": character })).json(200)["tokens"].clone();
        let [ref id] = tokens.as_array().unwrap()[..] else { panic!("{character} is not one token") };
        Meta::U32(id.as_u64().unwrap() as u32)
    };
    let three = [
        ("tokenizer.ggml.fim_pre_token_id", id("#")),
        ("tokenizer.ggml.fim_suf_token_id", id("$")),
        ("tokenizer.ggml.fim_mid_token_id", id("%")),
    ];
    let extra = json!({"prompt": "let", "input_extra": [{"filename": "b.rs", "text": "mod b;"}]});
    let server = serve(&changed(&three), ServeOptions::default());
    let fill = |fields: Value| post_to(server.address(), "/infill", &with(body.clone(), fields));
    assert_eq!(fill(json!({})).json(200)["prompt"], "<|endoftext|>#fn a() {$}%");
    assert_eq!(fill(extra.clone()).json(200)["prompt"], "<|endoftext|>mod b;#fn a() {$}%let");
    let control = fill(json!({"input_prefix": "<|im_end|>"})).json(200);
    assert!(control["tokens_evaluated"].as_u64().unwrap() > 8, "control tokens in texts are text: {control}");
    for wrong in [
        json!({"input_extra": [{"filename": "b.rs"}]}),
        json!({"input_extra": "x"}),
        json!({"input_prefix": null}),
        json!({"input_suffix": 1}),
    ] {
        let error = fill(wrong.clone()).json(400);
        assert!(error["error"]["param"].as_str().unwrap().starts_with("input_"), "{wrong}: {error}");
    }
    assert_eq!(fill(json!({"stream": true})).events().last().unwrap()["stop"], true);
    server.stop();

    let files = [("tokenizer.ggml.fim_rep_token_id", id("@")), ("tokenizer.ggml.fim_sep_token_id", id("&"))];
    let all: Vec<_> = three.into_iter().chain(files).collect();
    let server = serve(&changed(&all), ServeOptions::default());
    let filled = post_to(server.address(), "/infill", &with(body, extra)).json(200);
    assert_eq!(filled["prompt"], "<|endoftext|>@myproject\n&b.rs\nmod b;\n&filename\n#fn a() {$}%let");
    server.stop();
}
