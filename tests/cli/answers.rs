//! Where an answer ends and what of it is shown. The model of `tests/fixtures/stories260K` continues "Once upon a time"
//! greedily with ", there was a little girl named Lily"; a file that spells these tokens differently answers differently.

use std::process::{Command, Output, Stdio};

use rfgraph::gguf::{Gguf, GgufWriter, Strings, Value};
use serde_json::Value as Json;

use crate::support::inside::inside;

/// The first tokens of the answer: `,`, ` there`, ` was`, ` a`, ` little`, ` g`, `ir`, `l`.
const ANSWER: [u32; 8] = [432, 383, 286, 261, 376, 298, 315, 421];

/// The prompt as the only message of a chat.
const TEMPLATE: &str = "{{ messages[-1].content }}";

/// Renders the markers of thoughts too, so that the model has them.
const THINKS: &str = "{% if false %}<think></think>{% endif %}{{ messages[-1].content }}";

struct File(tempfile::NamedTempFile);

/// The model with tokens spelled differently, of another kind, and with other keys.
fn model(spelled: &[(u32, &str, i32)], keys: &[(&str, Value)]) -> File {
    let gguf = Gguf::open(&inside("stories260K/stories260K-F32.gguf")).unwrap();
    let metadata = gguf.metadata();
    let mut tokens: Vec<String> =
        metadata.strings("tokenizer.ggml.tokens").unwrap().iter().map(str::to_owned).collect();
    let mut kinds = metadata.i32s("tokenizer.ggml.token_type").unwrap().into_owned();
    for &(id, text, kind) in spelled {
        tokens[id as usize] = text.to_owned();
        kinds[id as usize] = kind;
    }
    let tokens: Strings = tokens.iter().map(String::as_str).collect();
    let own =
        [("tokenizer.ggml.tokens", Value::from(tokens)), ("tokenizer.ggml.token_type", Value::from(kinds))];
    let mut writer = GgufWriter::new();
    let changed = |key: &str| own.iter().chain(keys).any(|(other, _)| *other == key);
    for (key, value) in metadata.iter().filter(|(key, _)| !changed(key)) {
        writer.set(key, value.clone()).unwrap();
    }
    for (key, value) in own.iter().chain(keys) {
        writer.set(key, value.clone()).unwrap();
    }
    for info in gguf.tensors() {
        writer.tensor(&info.name, info.dtype, info.shape, gguf.data(info)).unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writer.write(&mut file).unwrap();
    File(file)
}

impl File {
    fn run(&self, options: &[&str]) -> Output {
        let fixed = ["-p", "Once upon a time", "--device", "cpu"];
        Command::new(env!("CARGO_BIN_EXE_rfgraph"))
            .arg("run")
            .arg(self.0.path())
            .args(fixed)
            .args(options)
            .env_remove("RFGRAPH_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The greedy continuation of the plain text.
    fn raw(&self, options: &[&str]) -> Json {
        self.json(&[&["--raw", "--temp", "0"], options].concat())
    }

    fn json(&self, options: &[&str]) -> Json {
        let output = self.run(&[&["--json"], options].concat());
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{options:?}: {complaint}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn stdout(&self, options: &[&str]) -> String {
        let output = self.run(options);
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The text and the reason of the end.
fn end(answer: &Json) -> (String, String) {
    (answer["text"].as_str().unwrap().to_owned(), answer["stop"].as_str().unwrap().to_owned())
}

fn ended(text: &str, stop: &str) -> (String, String) {
    (text.to_owned(), stop.to_owned())
}

#[test]
fn a_token_with_a_name_of_ends_ends_the_answer() {
    let names = [
        "<eos>",
        "[EOS]",
        "<end_of_utterance>",
        "<|fim_pad|>",
        "<|file_sep|>",
        "<|repo_name|>",
        "<|im_end|>",
        "<turn|>",
    ];
    for (n, name) in names.into_iter().enumerate() {
        // Every kind that the token can have, and every place in the answer.
        let (kind, at) = ([3, 1, 4, 5, 0][n % 5], n % 4);
        let file = model(&[(ANSWER[at], name, kind)], &[]);
        let text = [",", " there", " was"][..at].concat();
        assert_eq!(end(&file.raw(&["-n", "8"])), ended(&text, "end"), "{name} of kind {kind}");
    }
}

#[test]
fn a_token_that_a_key_names_ends_the_answer() {
    let there = ANSWER[1];
    for (key, value) in [
        ("eom_token_id", Value::from(there)),
        ("eot_token_id", Value::from(there)),
        ("eos_token_id", Value::from(vec![2i32, there as i32])),
        ("eos_token_ids", Value::from(vec![there, 2])),
        ("fim_pad_token_id", Value::from(there)),
    ] {
        let file = model(&[], &[(&format!("tokenizer.ggml.{key}"), value)]);
        assert_eq!(end(&file.raw(&["-n", "8"])), ended(",", "end"), "{key}");
    }
}

#[test]
fn keys_that_name_no_token_change_nothing() {
    for (key, id) in [
        ("padding", Value::from(512u32)),
        ("padding", Value::from(u32::MAX)),
        ("unknown", Value::from(-1i32)),
        ("seperator", Value::from(512u32)),
        ("eos", Value::from(i64::MAX)),
        ("mask", Value::from(-1i64)),
    ] {
        let file = model(&[], &[(&format!("tokenizer.ggml.{key}_token_id"), id)]);
        assert_eq!(end(&file.raw(&["-n", "8"])), ended(", there was a little girl", "limit"), "{key}");
    }
    let file = model(&[(300, "▁zebra", 0)], &[]);
    let output = file.run(&["--raw", "--temp", "0", "-n", "8"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), ", there was a little girl\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("token_type[300] is 0"), "{said}");
    assert_eq!(said.matches("token_type[300]").count(), 1, "it is said once: {said}");
}

#[test]
fn a_control_tokens_name_stops_at_the_token() {
    for (spelled, stop, text) in [
        ((ANSWER[0], "<|xyz|>", 3), "<|xyz|>", ""),
        ((ANSWER[1], "<|xyz|>", 3), "<|xyz|>", ","),
        ((ANSWER[1], "[STOP]", 3), "[STOP]", ","),
        ((ANSWER[2], "<|user|>", 4), "<|user|>", ", there"),
        ((ANSWER[1], "<|xyz|>", 3), ",<|xyz|>", ""),
        ((ANSWER[1], "<|xyz|>", 3), "<|xyz|> was", ","),
    ] {
        let file = model(&[spelled], &[]);
        assert_eq!(end(&file.raw(&["-n", "8", "--stop", stop])), ended(text, "stop"), "{stop}");
    }
    // A part of its name is not in the text.
    let file = model(&[(ANSWER[1], "<|xyz|>", 3)], &[]);
    for stop in ["xyz", "<|xy", "xyz|>", "|>"] {
        assert_eq!(
            end(&file.raw(&["-n", "8", "--stop", stop])),
            ended(", was a little girl", "limit"),
            "{stop}"
        );
    }
}

#[test]
fn numbers_below_zero_mean_no_limit_and_a_random_seed() {
    let file = model(&[(ANSWER[7], "<eos>", 3)], &[]);
    let text = ", there was a little gir";
    assert_eq!(end(&file.raw(&["-n", "-1"])), ended(text, "end"));
    assert_eq!(end(&file.raw(&["-n", "-2"])), ended(text, "end"));
    let file = model(&[], &[]);
    assert_eq!(file.raw(&["-n", "-2", "-c", "16", "--context-shift"])["stop"], "context");
    assert_eq!(file.raw(&["-n", "20", "-c", "16", "--context-shift"])["stop"], "limit");
    assert_eq!(file.run(&["-n", "-3"]).status.code(), Some(2));
    let seed =
        |options: &[&str]| file.json(&[&["--raw", "-n", "1"], options].concat())["sampling"]["seed"].clone();
    assert_ne!(seed(&["--seed", "-1"])["value"], seed(&["--seed", "-1"])["value"]);
    assert_eq!(seed(&["--seed", "-1"])["from"], "option");
    assert_eq!(seed(&[])["value"], 0);
    assert_eq!(file.run(&["--seed", "-2"]).status.code(), Some(2));
}

#[test]
fn the_file_sets_the_samplers_and_options_win() {
    let greedy = ", there was a little girl named Lily. She loved to play";
    let key = |name: &str| format!("general.sampling.{name}");
    for (name, value, parameter) in [
        ("temp", Value::from(0.0f32), "temperature"),
        ("temp", Value::from(-1i32), "temperature"),
        ("top_k", Value::from(1i32), "top_k"),
        ("top_p", Value::from(0.0f32), "top_p"),
        ("min_p", Value::from(1.0f64), "min_p"),
        ("sequence", Value::from("top_k;temperature"), "samplers"),
    ] {
        let also = (key("top_k"), Value::from(1i32));
        let keys: Vec<(&str, Value)> = match name {
            "sequence" => vec![("general.sampling.sequence", value), (also.0.as_str(), also.1.clone())],
            _ => vec![(Box::leak(key(name).into_boxed_str()), value)],
        };
        let file = model(&[], &keys);
        let answer = file.json(&["--raw", "-n", "16", "--seed", "3"]);
        assert_eq!(answer["text"], greedy, "{name}");
        assert_eq!(answer["sampling"][parameter]["from"], "file", "{name}");
    }
    let file =
        model(&[], &[("general.sampling.temp", 0.0f32.into()), ("general.sampling.top_p", 0.9f32.into())]);
    let answer = file.json(&["--raw", "-n", "16", "--temp", "1.5", "--seed", "3"]);
    assert_ne!(answer["text"], greedy);
    let sampling = &answer["sampling"];
    assert_eq!(sampling["temperature"], serde_json::json!({"value": 1.5, "from": "option"}));
    assert_eq!(sampling["top_p"], serde_json::json!({"value": 0.9, "from": "file"}));
    assert_eq!(sampling["top_k"], serde_json::json!({"value": 40, "from": "default"}));
    // The default that an option names is an option too.
    let answer = file.json(&["--raw", "-n", "1", "--temp", "0.8"]);
    assert_eq!(answer["sampling"]["temperature"]["from"], "option");
    let file = model(
        &[],
        &[("general.sampling.mirostat", 2i32.into()), ("general.sampling.mirostat_tau", 4.0f32.into())],
    );
    let mirostat = |options: &[&str]| {
        file.json(&[&["--raw", "-n", "1"], options].concat())["sampling"]["mirostat"].clone()
    };
    assert_eq!(mirostat(&[])["value"]["tau"], 4.0);
    assert_eq!(mirostat(&["--mirostat", "0"])["value"], Json::Null);
}

#[test]
fn a_suggestion_that_cannot_be_followed_is_a_warning() {
    for (name, value) in [
        ("temp", Value::from(f32::NAN)),
        ("top_p", Value::from(7.0f32)),
        ("min_p", Value::from("much")),
        ("sequence", Value::from("top_k;warmth")),
        ("sequence", Value::from(3u32)),
        ("mirostat", Value::from(1i32)),
        ("penalty_repeat", Value::from(f32::INFINITY)),
    ] {
        let key = format!("general.sampling.{name}");
        let file = model(&[], &[(&key, value)]);
        let output = file.run(&["--raw", "--temp", "0", "-n", "8"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), ", there was a little girl\n", "{key}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("{key} is")), "{key}: {said}");
    }
}

/// A file whose model thinks ` there was a` and answers ` girl`.
fn thinker(template: &str) -> File {
    let spelled = [(ANSWER[0], "<think>", 3), (ANSWER[4], "</think>", 3)];
    model(&spelled, &[("tokenizer.chat_template", template.into())])
}

#[test]
fn thoughts_are_shown_hidden_or_alone() {
    let greedy = ["--temp", "0", "-n", "8"];
    for file in [thinker(TEMPLATE), thinker(THINKS)] {
        let shown = |options: &[&str]| file.stdout(&[&greedy, options].concat());
        assert_eq!(shown(&[]), "girl\n");
        assert_eq!(shown(&["--reasoning", "hide"]), "girl\n");
        assert_eq!(shown(&["--reasoning", "show"]), "there was a\n\ngirl\n");
        assert_eq!(shown(&["--reasoning", "only"]), "there was a\n");
        assert_eq!(shown(&["--special", "--reasoning", "show"]), "<think> there was a</think> girl\n");
        let answer = file.json(&greedy);
        assert_eq!(answer["text"], "girl");
        assert_eq!(answer["parts"][0], serde_json::json!({"kind": "thoughts", "text": "there was a"}));
        assert_eq!(answer["parts"][1], serde_json::json!({"kind": "text", "text": "girl"}));
        // Plain text has no parts unless they are asked for.
        assert_eq!(shown(&["--raw"]), "<think> there was a</think> girl\n");
        assert_eq!(shown(&["--raw", "--reasoning", "only"]), "there was a\n");
        let output = file.run(&["--temp", "0", "-n", "3"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("nothing but the model's thoughts"), "{said}");
    }
}

#[test]
fn thoughts_that_the_template_opens_are_thoughts() {
    let spelled = [(504, "<think>", 3), (ANSWER[4], "</think>", 3)];
    let template = "{{ messages[-1].content }}{% if add_generation_prompt %}<think>{% endif %}";
    let file = model(&spelled, &[("tokenizer.chat_template", template.into())]);
    let answer = file.json(&["--temp", "0", "-n", "12"]);
    assert_eq!(answer["parts"][0]["kind"], "thoughts", "{answer}");
    let closed = template.replace("<think>", "<think></think>");
    let file = model(&spelled, &[("tokenizer.chat_template", closed.as_str().into())]);
    let answer = file.json(&["--temp", "0", "-n", "2"]);
    assert_eq!(answer["parts"][0]["kind"], "text", "{answer}");
}

#[test]
fn channels_are_told_apart() {
    let spelled = [
        (ANSWER[0], "<|channel|>", 3),
        (ANSWER[1], "analysis", 1),
        (ANSWER[2], "<|message|>", 3),
        (ANSWER[4], "<|end|>", 3),
        (500, "<|return|>", 3),
        (501, "<|call|>", 3),
        (502, "<|start|>", 3),
    ];
    let file = model(&spelled, &[]);
    let options = ["--raw", "--temp", "0", "-n", "5"];
    let answer = file.json(&[&options[..], &["--reasoning", "show"]].concat());
    assert_eq!(answer["parts"], serde_json::json!([{"kind": "thoughts", "text": " a"}]));
    assert_eq!(file.stdout(&[&options[..], &["--reasoning", "only"]].concat()), " a\n");
    // Plain text shows its markers.
    assert_eq!(file.stdout(&options), "<|channel|>analysis<|message|> a<|end|>\n");
}

#[cfg(feature = "grammar")]
#[test]
fn a_constraint_begins_after_the_thoughts() {
    let digits = r#"{"type": "integer"}"#;
    let options = ["--temp", "0", "-n", "10", "--json-schema", digits];
    let answer = thinker(TEMPLATE).json(&options);
    assert_eq!(
        answer["parts"][0],
        serde_json::json!({"kind": "thoughts", "text": "there was a"}),
        "{answer}"
    );
    let text = answer["text"].as_str().unwrap();
    assert!(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '-'), "{answer}");
    // In the thoughts no token ends the answer: it would not match.
    let spelled = [(ANSWER[0], "<think>", 3), (ANSWER[4], "</think>", 3), (ANSWER[2], "<eos>", 3)];
    let file = model(&spelled, &[("tokenizer.chat_template", TEMPLATE.into())]);
    let answer = file.json(&options);
    assert_eq!(
        (&answer["parts"][0]["kind"], &answer["stop"]),
        (&"thoughts".into(), &"limit".into()),
        "{answer}"
    );
    // Without thoughts it begins at once.
    let answer = model(&[], &[]).raw(&options[2..]);
    assert!(answer["text"].as_str().unwrap().chars().all(|c| c.is_ascii_digit() || c == '-'), "{answer}");
}
