//! Promise P7 beyond the file format: a damaged model is refused or runs, and never panics.

use std::num::NonZeroUsize;
use std::path::Path;

use proptest::prelude::*;
use rfgraph::gguf::{Gguf, GgufWriter, Value};
use rfgraph::model::{Model, Session, SessionOptions};
use rfgraph::tensor::DType;
use rfgraph::text::{ChatTemplate, Message};

use crate::support::architectures::fixtures;

fn stories() -> Vec<u8> {
    let path = "tests/fixtures/stories260K/stories260K-Q4_0.gguf";
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Uses a file as a program would. Any error is fine; a panic is not.
fn use_file(bytes: Vec<u8>) {
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return };
    let Ok(model) = Model::from_gguf(gguf) else { return };
    if let Ok(tokenizer) = model.tokenizer() {
        let tokens = tokenizer.encode_chat("Once upon a time");
        tokenizer.decode(&tokens, true);
        if let Ok(template) = ChatTemplate::of(&tokenizer) {
            let _ = template.render(&[Message::new("user", "hello")], true);
        }
    }
    // A small share of the memory, since a file may demand any amount.
    let options = SessionOptions {
        n_ctx: 64,
        ubatch: Some(8),
        threads: Some(NonZeroUsize::MIN),
        memory_fraction: 0.05,
        ..SessionOptions::default()
    };
    let Ok(mut session) = Session::new(&model, &options) else { return };
    let id = session.open().unwrap();
    let _ = session.prefill(id, &[1, 2, 3]);
    let _ = session.decode(&[(id, 4)]);
}

/// The file with one metadata value changed.
fn with_value(key: &str, value: Value) -> Vec<u8> {
    rewritten(&Gguf::from_bytes(stories()).unwrap(), key, value, None)
}

/// A file with a metadata value set or added, and with one tensor more.
fn rewritten(gguf: &Gguf, key: &str, value: Value, tensor: Option<&str>) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    for (name, old) in gguf.metadata().iter() {
        writer.set(name, if name == key { value.clone() } else { old.clone() }).unwrap();
    }
    if gguf.metadata().get(key).is_none() {
        writer.set(key, value).unwrap();
    }
    for info in gguf.tensors() {
        writer.tensor(&info.name, info.dtype, info.shape, gguf.data(info)).unwrap();
    }
    if let Some(name) = tensor {
        writer.tensor(name, DType::F32, [4], vec![0; 16]).unwrap();
    }
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    bytes
}

fn keys() -> Vec<String> {
    let gguf = Gguf::from_bytes(stories()).unwrap();
    gguf.metadata().iter().map(|(key, _)| key.to_string()).collect()
}

#[test]
fn absurd_hyper_parameters_are_refused_or_harmless() {
    for key in keys() {
        for value in [
            Value::U32(0),
            Value::U32(1),
            Value::U32(3),
            Value::U32(u32::MAX),
            Value::U64(u64::MAX),
            Value::I32(-1),
            Value::F32(f32::NAN),
            Value::F32(0.0),
            Value::F32(f32::INFINITY),
            Value::F32(1e-38),
            Value::Bool(true),
            Value::String(String::new()),
            Value::String("\u{1F}%{{".into()),
        ] {
            use_file(with_value(&key, value));
        }
    }
}

/// Nothing in a file is silently ignored, for any architecture: an unknown key is reported, an unknown tensor refused.
#[test]
fn unknown_keys_and_tensors_are_named() {
    for fixture in fixtures() {
        let (model, name) = (fixture.model(), &fixture.name);
        let architecture = model.architecture_name();
        let key = format!("{architecture}.attention.wobble");
        let keyed = Gguf::from_bytes(rewritten(model.gguf(), &key, Value::U32(1), None)).unwrap();
        let keyed = Model::from_gguf(keyed).unwrap();
        assert_eq!(keyed.keys().unknown, std::slice::from_ref(&key), "{name}");
        let error = keyed.refuse_unknown_keys().unwrap_err().to_string();
        assert!(error.contains(&key) && error.contains(architecture), "{name}: {error}");

        let alignment = Value::U32(32);
        let tensor = Some("blk.0.attn_wobble.weight");
        let bytes = rewritten(model.gguf(), "general.alignment", alignment, tensor);
        let model = Model::from_gguf(Gguf::from_bytes(bytes).unwrap()).unwrap();
        let options = SessionOptions { n_ctx: 64, ubatch: Some(8), ..SessionOptions::default() };
        let error = Session::new(&model, &options).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("blk.0.attn_wobble.weight"), "{name}: {error}");
    }
}

/// Values that would change the computation, or contradict the tensors.
#[test]
fn contradictions_are_refused_by_key() {
    for (name, key, value) in [
        ("mistral3", "rope.scaling.yarn_log_multiplier", Value::F32(-1.0)),
        ("deepseek2-v2", "rope.scaling.yarn_log_multiplier", Value::F32(1e30)),
        ("phi3-longrope", "rope.scaling.type", Value::String("yarn".into())),
        ("llama", "attn_logit_softcapping", Value::F32(50.0)),
        ("llama", "rope.scaling.type", Value::String("llama3".into())),
        ("llama", "rope.dimension_sections", Value::from(vec![8u32, 4, 4, 0])),
        ("qwen3", "attention.sliding_window", Value::U32(64)),
        ("granite", "rope.scaling.finetuned", Value::Bool(false)),
        ("llama", "attention.head_count_kv", Value::from(vec![2u32, 1])),
        ("olmo2", "rope.scaling.type", Value::String("longrope".into())),
        ("falcon-7b", "tensor_data_layout", Value::String("reference".into())),
        ("llama", "tensor_data_layout", Value::String("jploski".into())),
        ("stablelm", "use_parallel_residual", Value::Bool(true)),
        ("stablelm-parallel", "use_parallel_residual", Value::Bool(false)),
        ("llama-moe", "expert_count", Value::U32(1025)),
    ] {
        let model = fixtures().into_iter().find(|fixture| fixture.name == name).unwrap().model();
        let key = format!("{}.{key}", model.architecture_name());
        let file = Gguf::from_bytes(rewritten(model.gguf(), &key, value, None)).unwrap();
        let error = Model::from_gguf(file).unwrap_err().to_string();
        assert!(error.contains(&key), "{name}: {error}");
    }
}

/// Values that a hyper-parameter should not have, at least not together with the others.
fn absurd() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 2, 3, 7, 33, 64, 1 << 20, u32::MAX]).prop_map(Value::U32),
        prop::sample::select(vec![0.0, -1.0, 1e-30, 1e30, f32::NAN, f32::INFINITY]).prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::String("yarn".into())),
        Just(Value::from(vec![1i64, 2, 3])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Weights of any bits: infinite and NaN scales, codes of every value.
    #[test]
    fn any_weights_run(noise in any::<u64>(), places in 1usize..2000) {
        let mut bytes = stories();
        let data = 60_000.min(bytes.len() / 2);
        let mut state = noise | 1;
        for _ in 0..places {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = data + (state >> 33) as usize % (bytes.len() - data);
            bytes[at] = (state >> 20) as u8;
        }
        use_file(bytes);
    }

    /// Any hyper-parameter of any architecture.
    #[test]
    fn absurd_architectures_are_refused_or_harmless(which in any::<prop::sample::Index>(), key in any::<prop::sample::Index>(), value in absurd()) {
        let all = fixtures();
        let model = all[which.index(all.len())].model();
        let prefix = format!("{}.", model.architecture_name());
        let keys: Vec<&str> =
            model.gguf().metadata().iter().map(|(key, _)| key).filter(|key| key.starts_with(&prefix)).collect();
        use_file(rewritten(model.gguf(), keys[key.index(keys.len())], value, None));
    }

    /// Any few bytes of the header, which describes the model.
    #[test]
    fn any_header_is_refused_or_runs(changes in prop::collection::vec((0usize..20_000, any::<u8>()), 1..4)) {
        let mut bytes = stories();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        use_file(bytes);
    }
}
