//! Keys of a file, as the program shows and judges them.

use std::fs;

use rfgraph::model::Model;
use serde_json::Value;

use crate::commands::{SUM, command, failure};

/// The demo model's file with two more keys: one without effect, one that nobody knows.
fn file_with_keys() -> tempfile::NamedTempFile {
    let model = Model::demo().unwrap();
    let mut writer = rfgraph::gguf::GgufWriter::new();
    for (key, value) in model.gguf().metadata().iter() {
        writer.set(key, value.clone()).unwrap();
    }
    writer.set("llama.ssm.state_size", 0u32).unwrap();
    writer.set("llama.wobble", 1u32).unwrap();
    writer.set("llama.rope.scaling.type", "yarn").unwrap();
    writer.set("llama.rope.scaling.factor", 1f32).unwrap();
    for info in model.gguf().tensors() {
        writer.tensor(&info.name, info.dtype, info.shape, model.gguf().data(info)).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    writer.write(&mut fs::File::create(file.path()).unwrap()).unwrap();
    file
}

#[test]
fn unknown_keys_are_a_warning_and_with_strict_an_error() {
    let file = file_with_keys();
    let path = file.path().to_str().unwrap();
    let run = |options: &[&str]| {
        command(&[&["run", path, "-p", SUM, "--device", "cpu"], options].concat()).output()
    };
    let output = run(&[]).unwrap();
    let warning = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "632\n", "{warning}");
    assert!(warning.contains("WARN") && warning.contains("llama.wobble"), "{warning}");
    assert!(!warning.contains("ssm.state_size") && !warning.contains("assumed"), "{warning}");
    let log = String::from_utf8(run(&["-v"]).unwrap().stderr).unwrap();
    assert!(log.contains("llama.rope.scaling.original_context_length is not in the file"), "{log}");
    let (code, message) = failure(&["run", path, "-p", SUM, "--device", "cpu", "--strict"]);
    assert!(code == Some(1) && message.contains("llama.wobble"), "{message}");
    assert!(command(&["run", "-p", SUM, "--strict"]).output().unwrap().status.success());
}

#[test]
fn inspect_shows_the_fate_of_every_key() {
    let file = file_with_keys();
    let path = file.path().to_str().unwrap();
    let output = command(&["inspect", path, "--json"]).output().unwrap();
    let keys = serde_json::from_slice::<Value>(&output.stdout).unwrap()["keys"].clone();
    let has = |list: &str, key: &str| keys[list].as_array().unwrap().iter().any(|name| name == key);
    assert!(has("obeyed", "llama.block_count") && has("obeyed", "tokenizer.ggml.tokens"), "{keys}");
    assert!(has("ignored", "llama.ssm.state_size") && has("obeyed", "general.name"), "{keys}");
    assert_eq!(keys["unknown"], serde_json::json!(["llama.wobble"]));
    assert_eq!(keys["assumed"][0]["key"], "llama.rope.scaling.original_context_length");
    let output = command(&["inspect", path]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap().matches("llama.wobble").count(), 1);
    for line in ["  unknown llama.wobble", "  ignored llama.ssm.state_size", "  obeyed  llama.block_count"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(text.contains("  assumed llama.rope.scaling.original_context_length"), "{text}");
    let strict = command(&["inspect", path, "--json", "--strict"]).output().unwrap();
    let report: Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert!(report["problem"].as_str().unwrap().contains("llama.wobble"), "{report}");
}
