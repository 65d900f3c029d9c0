//! Keys of a file: obeyed, harmless, unknown, and values that are meant where a key is absent.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rfgraph::gguf::{Gguf, GgufWriter, Strings, Value};
use rfgraph::model::{ARCHITECTURE_KEYS, Effect, FILE_KEYS, KeyRow, Model, ModelError, SessionOptions};
use rfgraph::tensor::DType;
use rfgraph::text::{EncodeOptions, Tokenizer, VocabData};

use crate::support::architectures::{fixtures, logits_of};

/// A fixture's file with changes. Keys are without the prefix of the architecture, unless they belong to none.
#[derive(Clone)]
pub struct Changed {
    model: Model,
    /// `None`: the key is removed.
    keys: BTreeMap<String, Option<Value>>,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Changed {
    pub fn of(fixture: &str) -> Changed {
        let fixture = fixtures().into_iter().find(|known| known.name == fixture).unwrap();
        Changed { model: fixture.model(), keys: BTreeMap::new(), tensors: BTreeMap::new() }
    }

    fn full(&self, key: &str) -> String {
        let is_of_file = FILE_KEYS.iter().any(|row| row.is_about(key));
        if is_of_file { key.into() } else { format!("{}.{key}", self.model.architecture_name()) }
    }

    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Changed {
        self.keys.insert(self.full(key), Some(value.into()));
        self
    }

    fn without(mut self, key: &str) -> Changed {
        let full = self.full(key);
        assert!(self.model.gguf().metadata().get(&full).is_some(), "the fixture has no {full}");
        self.keys.insert(full, None);
        self
    }

    /// Adds a vector.
    pub fn tensor(mut self, name: &str, values: &[f32]) -> Changed {
        self.tensors.insert(name.into(), values.to_vec());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let gguf = self.model.gguf();
        let mut writer = GgufWriter::new();
        for (key, value) in gguf.metadata().iter().filter(|(key, _)| !self.keys.contains_key(*key)) {
            writer.set(key, value.clone()).unwrap();
        }
        for (key, value) in &self.keys {
            if let Some(value) = value {
                writer.set(key, value.clone()).unwrap();
            }
        }
        for info in gguf.tensors() {
            writer.tensor(&info.name, info.dtype, info.shape, gguf.data(info)).unwrap();
        }
        for (name, values) in &self.tensors {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            writer.tensor(name, DType::F32, [values.len()], bytes).unwrap();
        }
        let mut bytes = Vec::new();
        writer.write(&mut bytes).unwrap();
        bytes
    }

    pub fn open(&self) -> Result<Model, ModelError> {
        Model::from_gguf(Gguf::from_bytes(self.bytes()).unwrap())
    }

    /// A hash of the bits of some tokens' logits.
    fn logits(&self) -> u64 {
        let model = self.open().unwrap();
        let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 120 + 3).collect();
        let options = SessionOptions { n_ctx: 64, ..SessionOptions::default() };
        let logits = logits_of(&model, &tokens, &options);
        let mut hasher = DefaultHasher::new();
        logits.iter().flatten().for_each(|x| x.to_bits().hash(&mut hasher));
        hasher.finish()
    }

    fn assumes(&self) -> Vec<(String, String)> {
        let model = self.open().unwrap();
        let assumed = model.keys().assumed.iter();
        assumed.map(|assumed| (assumed.key.clone(), assumed.value.clone())).collect()
    }
}

/// The key of a row, with a word in place of `*`.
fn key(row: &KeyRow) -> String {
    row.key.replace('*', "something")
}

/// Values that a key has in no sane file.
fn odd() -> Vec<Value> {
    let texts: Strings = ["a", "b"].into_iter().collect();
    vec![
        Value::U32(7),
        Value::F32(f32::NAN),
        Value::from("something"),
        Value::Bool(true),
        Value::from(vec![1u32, 2, 3]),
        Value::from(texts),
        Value::NotUtf8(b"caf\xe9".to_vec()),
    ]
}

/// A file for each row that may not refuse: 0 for every harmless key, any value where nothing reads the key.
#[test]
fn harmless_keys_never_refuse_a_file() {
    for fixture in ["llama", "gemma2", "gpt2", "qwen2", "qwen3"] {
        let file = Changed::of(fixture);
        let rows = ARCHITECTURE_KEYS.iter().chain(FILE_KEYS);
        for row in rows.filter(|row| !matches!(row.effect, Effect::Changes(_)) && row.obeyed_by.is_none()) {
            let (key, full) = (key(row), file.full(&key(row)));
            if file.model.gguf().metadata().get(&full).is_some() {
                continue;
            }
            let model = file.clone().set(&key, Value::U32(0)).open();
            let model = model.unwrap_or_else(|error| panic!("{fixture}: {full} = 0: {error}"));
            if model.keys().obeyed.contains(&full) {
                continue;
            }
            for value in odd() {
                let shown = value.to_string();
                let model = file.clone().set(&key, value).open();
                let model = model.unwrap_or_else(|error| panic!("{fixture}: {full} = {shown}: {error}"));
                assert!(model.keys().ignored.contains(&full), "{fixture}: {full} = {shown}");
            }
        }
    }
}

/// Any value of a key that the tokenizer does not read, of an id, or of a chat template leaves a tokenizer that encodes as before.
#[test]
fn harmless_keys_never_refuse_a_tokenizer() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/text/demo-vocab.gguf");
    let plain = Gguf::open(path.as_ref()).unwrap();
    let tokenizer_with = |changed: &str, value: &Value| {
        let mut writer = GgufWriter::new();
        for (key, value) in plain.metadata().iter().filter(|(key, _)| *key != changed) {
            writer.set(key, value.clone()).unwrap();
        }
        writer.set(changed, value.clone()).unwrap();
        let mut bytes = Vec::new();
        writer.write(&mut bytes).unwrap();
        let data = VocabData::from_metadata(Gguf::from_bytes(bytes).unwrap().metadata())?;
        Tokenizer::new(data)
    };
    let ids = |tokenizer: &Tokenizer| tokenizer.encode("Lily had 2 dogs.", EncodeOptions::default());
    let expected = ids(&tokenizer_with("general.name", &Value::from("demo")).unwrap());
    let rows = FILE_KEYS.iter().filter(|row| {
        let is_id = row.key.contains("_token_id") || row.key.starts_with("tokenizer.chat_template");
        is_id || row.obeyed_by.is_none() && !matches!(row.effect, Effect::Changes(_))
    });
    let mut n_rows = 0;
    for row in rows {
        n_rows += 1;
        for value in odd() {
            let tokenizer = tokenizer_with(&key(row), &value);
            let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{} = {value}: {error}", row.key));
            assert_eq!(ids(&tokenizer), expected, "{} = {value}", row.key);
        }
    }
    assert!(n_rows >= 25, "{n_rows}");
}

/// A value that stands for "none" of a key that nothing reads does not refuse a file, and another value does.
#[test]
fn keys_that_change_the_answer_are_obeyed_or_refused_by_name() {
    // They have an effect only together with other keys.
    let with_others = ["sliding_window_pattern", "freq_base_swa", "dimension_sections", "yarn_something"];
    for fixture in ["llama", "gpt2", "qwen3", "granite"] {
        let file = Changed::of(fixture);
        for row in ARCHITECTURE_KEYS.iter().chain(FILE_KEYS) {
            let Effect::Changes(neutral) = row.effect else { continue };
            let (key, full) = (key(row), file.full(&key(row)));
            if with_others.iter().any(|part| key.ends_with(part)) {
                continue;
            }
            for number in neutral {
                let value = Value::F32(*number as f32);
                if let Err(error) = file.clone().set(&key, value).open() {
                    // An architecture that reads the key may want a number of another type.
                    assert!(error.to_string().contains("wanted"), "{fixture}: {full} = {number}: {error}");
                }
            }
            match file.clone().set(&key, Value::F32(9.5)).open() {
                Ok(model) => assert!(model.keys().obeyed.contains(&full), "{fixture}: {full} is not obeyed"),
                Err(error) => assert!(error.to_string().contains(&full), "{fixture}: {full}: {error}"),
            }
        }
    }
}

/// All harmless keys at once do not move a bit.
#[test]
fn harmless_keys_leave_every_bit_of_the_logits() {
    let plain = Changed::of("llama");
    let mut file = plain.clone();
    for row in ARCHITECTURE_KEYS.iter().chain(FILE_KEYS).filter(|row| row.obeyed_by.is_none()) {
        let value = match row.effect {
            Effect::Changes([]) => continue,
            Effect::Changes(neutral) => Value::F32(neutral[0] as f32),
            _ => Value::U32(0),
        };
        let full = file.full(&key(row));
        let reads = plain.model.keys().read.contains(&full);
        if !reads && plain.model.gguf().metadata().get(&full).is_none() {
            file = file.set(&key(row), value);
        }
    }
    assert!(file.keys.len() > 60, "{}", file.keys.len());
    assert_eq!(file.logits(), plain.logits());
}

/// Every key of a file is in one list of the report, for every architecture.
#[test]
fn every_key_is_obeyed_ignored_or_unknown() {
    for fixture in fixtures() {
        let model = fixture.model();
        let keys = model.keys();
        let mut listed: Vec<&String> =
            [&keys.obeyed, &keys.ignored, &keys.unknown].into_iter().flatten().collect();
        let mut wanted: Vec<&str> = model.gguf().metadata().iter().map(|(key, _)| key).collect();
        listed.sort();
        wanted.sort();
        assert_eq!(listed, wanted, "{}", fixture.name);
        assert!(keys.unknown.is_empty(), "{}: {:?}", fixture.name, keys.unknown);
    }
}

/// The tokenizer knows some models by their name, and a name in Latin-1 is none of them.
#[test]
#[cfg(feature = "demo")]
fn a_name_that_is_not_utf8_leaves_the_tokenizer() {
    let model = Model::demo().unwrap();
    let file = Changed { model, keys: BTreeMap::new(), tensors: BTreeMap::new() };
    let named = file.clone().set("general.name", Value::NotUtf8(b"caf\xe9".to_vec())).open().unwrap();
    let text = "What is 347 + 285?";
    let plain = file.model.tokenizer().unwrap();
    assert_eq!(named.tokenizer().unwrap().encode_chat(text), plain.encode_chat(text));
}

/// Granite 4's dense files have keys of experts and of state-space layers.
#[test]
fn unused_counts_of_granite_4_leave_the_logits() {
    let plain = Changed::of("granite");
    let experts = || plain.clone().set("expert_count", Value::U32(0)).set("expert_used_count", Value::U32(0));
    let finetuned = || plain.clone().set("rope.scaling.finetuned", true);
    let mut spaces = experts().set("expert_shared_feed_forward_length", Value::U32(172));
    for (key, n) in [("conv_kernel", 4u32), ("state_size", 256), ("group_count", 1), ("inner_size", 128)] {
        spaces = spaces.set(&format!("ssm.{key}"), n);
    }
    let files = [
        experts(),
        finetuned(),
        spaces,
        plain.clone().set("expert_count", Value::U32(62)).set("expert_used_count", Value::U32(6)),
        finetuned()
            .set("ssm.time_step_rank", Value::U32(2))
            .set("attention.layer_norm_epsilon", Value::F32(1e-5)),
        experts().set("expert_feed_forward_length", Value::U32(0)).set("shortconv.l_cache", Value::U32(0)),
    ];
    let wanted = plain.logits();
    for (i, file) in files.iter().enumerate() {
        assert_eq!(file.logits(), wanted, "file {i}");
    }
}

#[test]
fn lists_of_equal_numbers_count_as_one_number() {
    for fixture in ["llama", "qwen2", "gemma3", "phi3", "qwen3moe"] {
        let plain = Changed::of(fixture);
        let n = plain.model.architecture().shape().n_layer;
        let wanted = plain.logits();
        for key in ["attention.head_count", "attention.head_count_kv", "feed_forward_length"] {
            let Some(one) = plain.model.gguf().metadata().opt_u32(&plain.full(key)).unwrap() else {
                continue;
            };
            assert_eq!(plain.clone().set(key, vec![one; n]).logits(), wanted, "{fixture}: {key}");
            let mut list = vec![i32::try_from(one).unwrap(); n];
            assert_eq!(plain.clone().set(key, list.clone()).logits(), wanted, "{fixture}: {key}");
            list[n - 1] += 1;
            let error = plain.clone().set(key, list).open().unwrap_err().to_string();
            assert!(error.contains(key), "{fixture}: {error}");
        }
    }
}

#[test]
fn a_stale_vocab_size_leaves_the_logits() {
    for fixture in ["llama", "gemma2", "gpt2"] {
        let plain = Changed::of(fixture);
        let wanted = plain.logits();
        for stale in [Value::U32(0), Value::U32(1), Value::U32(100), Value::U32(1 << 31), Value::I32(-1)] {
            assert_eq!(plain.clone().set("vocab_size", stale).logits(), wanted, "{fixture}");
        }
    }
}

#[test]
fn missing_keys_of_gemma_2_are_those_of_the_published_models() {
    let file = Changed::of("gemma2");
    let (attn, last) = ("attn_logit_softcapping", "final_logit_softcapping");
    let published = || file.clone().set(attn, Value::F32(50.0)).set(last, Value::F32(30.0));
    let missing = |keys: &[&str], of: Changed| keys.iter().fold(of, |file, key| file.without(key));
    let wanted = published().logits();
    let none = missing(&[attn, last], file.clone());
    assert_eq!(none.logits(), wanted);
    assert!(none.assumes().contains(&("gemma2.attn_logit_softcapping".into(), "50".into())));
    assert!(none.assumes().contains(&("gemma2.final_logit_softcapping".into(), "30".into())));
    assert_eq!(missing(&[attn], published()).logits(), wanted);
    assert_eq!(missing(&[last], published()).logits(), wanted);
    // The caps of these files do something.
    assert_ne!(published().set(attn, Value::F32(0.0)).logits(), wanted);
    assert_ne!(published().set(last, Value::F32(0.0)).logits(), wanted);
    let window = "attention.sliding_window";
    let wide = missing(&[window], published());
    assert_eq!(wide.logits(), published().set(window, Value::U32(4096)).logits());
    assert!(wide.assumes().contains(&("gemma2.attention.sliding_window".into(), "4096".into())));
    assert_ne!(wide.logits(), wanted);
}

#[test]
fn yarn_without_an_original_context_means_the_context() {
    let key = "rope.scaling.original_context_length";
    for fixture in ["llama-yarn", "gpt-oss", "mistral3", "deepseek2-lite", "deepseek2-v3"] {
        let file = Changed::of(fixture);
        let n = file.model.architecture().shape().n_ctx_train as u32;
        let without = file.clone().without(key);
        assert_eq!(without.logits(), file.clone().set(key, n).logits(), "{fixture}");
        assert!(without.assumes().contains(&(file.full(key), n.to_string())), "{fixture}");
    }
}

/// Without the key these models ran with softmax, off by 6.5 of a logit.
#[test]
fn experts_with_a_bias_of_the_choice_mean_sigmoid() {
    let file = Changed::of("deepseek2-v3");
    let key = "expert_gating_func";
    let without = file.clone().without(key);
    assert_eq!(without.logits(), file.logits());
    assert!(without.assumes().contains(&(file.full(key), "2".into())));
    assert_eq!(file.clone().set(key, Value::U32(0)).logits(), file.logits());
    assert_ne!(file.clone().set(key, Value::U32(1)).logits(), file.logits());
    // V2 has no bias, and softmax is meant.
    let file = Changed::of("deepseek2-v2");
    let without = if file.model.gguf().metadata().get(&file.full(key)).is_some() {
        file.clone().without(key)
    } else {
        file.clone()
    };
    assert_eq!(without.logits(), file.clone().set(key, Value::U32(1)).logits());
}

/// GLM 4.7 Flash's files count a layer for multi-token prediction, and some files lost its tensors.
#[test]
fn layers_for_multi_token_prediction_are_left_out() {
    for fixture in ["deepseek2-v3", "qwen3", "llama", "qwen3moe", "olmo2"] {
        let file = Changed::of(fixture);
        let n = file.model.architecture().shape().n_layer as u32;
        let wanted = file.logits();
        let said = file.clone().set("nextn_predict_layers", Value::U32(1));
        let counted = said.clone().set("block_count", n + 1);
        let tensor = |file: Changed, name: &str| file.tensor(&format!("blk.{n}.{name}.weight"), &[1.0; 32]);
        let whole = tensor(tensor(counted.clone(), "nextn.eh_proj"), "attn_output");
        assert_eq!(whole.logits(), wanted, "{fixture}: with the layer");
        assert_eq!(counted.logits(), wanted, "{fixture}: counted, and removed");
        assert_eq!(said.logits(), wanted, "{fixture}: removed, and not counted");
        assert_eq!(file.clone().set("nextn_predict_layers", Value::U32(0)).logits(), wanted, "{fixture}: 0");
    }
}

/// The key says both ways; without it gpt-oss means no rounding, and others mean rounding.
#[test]
fn truncated_ramps_of_yarn_are_obeyed() {
    let key = "rope.scaling.yarn_truncate";
    for (fixture, meant) in [("gpt-oss", false), ("llama-yarn", true), ("mistral3", true)] {
        let file = Changed::of(fixture);
        assert_eq!(file.clone().set(key, meant).logits(), file.logits(), "{fixture}");
        assert_ne!(file.clone().set(key, !meant).logits(), file.logits(), "{fixture}");
    }
}

#[test]
fn unused_strings_may_be_invalid_utf8() {
    let plain = Changed::of("llama");
    let wanted = plain.logits();
    for key in ["general.name", "general.author", "general.license", "general.source.url", "general.tags"] {
        for text in [&b"caf\xe9"[..], b"\xff\xfe", b"ab\xc3", b"\x80", b"\xed\xa0\x80"] {
            assert_eq!(plain.clone().set(key, Value::NotUtf8(text.to_vec())).logits(), wanted, "{key}");
        }
    }
    let needed = plain.set("general.architecture", Value::NotUtf8(b"llam\xe4".to_vec()));
    assert!(needed.open().unwrap_err().to_string().contains("general.architecture"));
}

#[test]
fn other_gguf_files_name_the_file_that_helps() {
    for (kind, help) in
        [("adapter", "give the model"), ("imatrix", "give the model"), ("mmproj", "its text model")]
    {
        let error = Changed::of("llama").set("general.type", kind).open().unwrap_err().to_string();
        assert!(error.contains("general.type") && error.contains(help), "{error}");
    }
    assert!(Changed::of("llama").set("general.type", "model").open().is_ok());
}
