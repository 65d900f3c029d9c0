//! `rfgraph quantize` and `rfgraph perplexity` from outside, and the quality of the files.
#![cfg(all(feature = "cli", feature = "demo"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rfgraph::gguf::{Gguf, GgufWriter};
use rfgraph::model::{Model, Session, SessionExtras, SessionOptions};
use rfgraph::quantize::{Mix, Quantization, Recipe};
use rfgraph::tensor::DType;
use rfgraph::tensor::blocks::dequantize;
use rfgraph::text::{EncodeOptions, Message};
use serde_json::Value;

use crate::support::demo;
use crate::support::inside::inside;
use crate::support::outside::outside;
use crate::support::skipped::skipped_for_want_of_data;

/// Exit code, standard output, standard error.
fn rfgraph(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
    let output = command.args(args).env_remove("RFGRAPH_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str]) -> Value {
    let (code, out, complaints) = rfgraph(args);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{args:?}");
    serde_json::from_str(&out).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn llama_f16() -> PathBuf {
    inside("llama/llama-F16.gguf")
}

fn stories() -> PathBuf {
    inside("stories260K/stories260K-F32.gguf")
}

fn recipe(mix: &str) -> Recipe {
    Recipe { mix: Mix::from_name(mix).unwrap(), output_type: None, embedding_type: None, pure: false }
}

/// The bytes of a file quantized to a mix, by this number of threads.
fn quantized(gguf: &Gguf, mix: &str, threads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let go_on = |_| std::ops::ControlFlow::Continue(());
    let quantization = Quantization::new(gguf, &recipe(mix), false).unwrap();
    quantization.write(&mut out, std::num::NonZeroUsize::new(threads), go_on).unwrap();
    out
}

fn values(gguf: &Gguf, name: &str) -> Vec<f32> {
    let info = gguf.tensor(name).unwrap();
    let mut values = vec![0.0; info.shape.elements()];
    dequantize(info.dtype, gguf.data(info), &mut values).unwrap();
    values
}

/// Squared error of a tensor against the original.
fn error(original: &Gguf, other: &Gguf, name: &str) -> f64 {
    let pairs = values(original, name).into_iter().zip(values(other, name));
    pairs.map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// The fixture was quantized by another program: our file has the same types, and an error no larger in any tensor.
#[test]
fn a_mix_has_the_types_of_another_programs_file_and_no_larger_error() {
    let original = Gguf::open(&llama_f16()).unwrap();
    let theirs = Gguf::open(&inside("llama/llama-Q4_K_M.gguf")).unwrap();
    let ours = Gguf::from_bytes(quantized(&original, "Q4_K_M", 2)).unwrap();
    let mut compared = 0;
    for info in ours.tensors() {
        let their = theirs.tensor(&info.name).unwrap();
        assert_eq!(info.dtype, their.dtype, "{}", info.name);
        if !info.dtype.is_plain() {
            let (our, their) = (error(&original, &ours, &info.name), error(&original, &theirs, &info.name));
            assert!(our <= their, "{}: {our}, theirs {their}", info.name);
            compared += 1;
        }
    }
    assert!(compared > 10);
    assert_eq!(ours.metadata().u32("general.file_type").unwrap(), 15);
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let original = Gguf::open(&llama_f16()).unwrap();
    for mix in ["Q4_K_M", "Q2_K", "IQ4_XS", "Q5_1", "BF16"] {
        let one = quantized(&original, mix, 1);
        assert!(one == quantized(&original, mix, 3), "{mix}");
    }
}

/// Rows of 64 do not fill blocks of 256, so every mix falls back to types of at least 4.5 bits: none may be further
/// from the original than another program's Q4_0, plus a tenth, since single files of equal error differ by that much.
#[test]
fn every_mix_of_stories_answers_like_the_original() {
    let original = Gguf::open(&stories()).unwrap();
    let ids: Vec<u32> = fs::read_to_string(inside("stories260K/stories260K.greedy200.txt"))
        .unwrap()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect();
    let logits = |gguf: Gguf| {
        let model = Model::from_gguf(gguf).unwrap();
        let mut session =
            Session::new(&model, &SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
        let id = session.open().unwrap();
        let mut rows = Vec::new();
        session.all_logits(id, &ids, |row| rows.push(row.to_vec())).unwrap();
        rows
    };
    let base = logits(Gguf::open(&stories()).unwrap());
    let most = mean_kl(&base, &logits(Gguf::open(&inside("stories260K/stories260K-Q4_0.gguf")).unwrap()));
    for mix in Mix::all().map(Mix::name) {
        let kl = mean_kl(&base, &logits(Gguf::from_bytes(quantized(&original, mix, 2)).unwrap()));
        assert!(kl <= 1.1 * most, "{mix}: {kl}, of another program's Q4_0 {most}");
    }
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let sum = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    row.iter().map(|&x| f64::from(x) - sum).collect()
}

fn mean_kl(base: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
    assert_eq!(base.len(), found.len());
    let of_row = |(base, found): (&Vec<f32>, &Vec<f32>)| -> f64 {
        let pairs = log_softmax(base).into_iter().zip(log_softmax(found));
        pairs.map(|(p, q)| p.exp() * (p - q)).sum()
    };
    base.iter().zip(found).map(of_row).sum::<f64>() / base.len() as f64
}

#[test]
fn the_command_writes_a_file_and_reports_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let input = llama_f16();
    let args = ["quantize", text(&input), text(&out), "q4_k", "--json"];
    let report = json(&args);
    assert_eq!(report["mix"], "Q4_K_M");
    let (original, file) = (Gguf::open(&llama_f16()).unwrap(), Gguf::open(&out).unwrap());
    assert_eq!(report["tensors"].as_array().unwrap().len(), original.tensors().len());
    let bytes: usize = file.tensors().iter().map(|info| info.bytes).sum();
    assert_eq!(report["bytes"].as_u64().unwrap(), bytes as u64);
    assert!((4.5..8.0).contains(&report["bits_per_weight"].as_f64().unwrap()), "{report}");
    // No other file is left in the folder.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // The metadata are the original's, except for two numbers.
    let pairs = |gguf: &Gguf| -> Vec<String> {
        let shown = gguf.metadata().iter().map(|(key, value)| format!("{key}: {value:?}"));
        shown
            .filter(|pair| !pair.starts_with("general.file_type") && !pair.starts_with("general.quant"))
            .collect()
    };
    assert_eq!(pairs(&original), pairs(&file));
    assert_eq!(file.metadata().u32("general.quantization_version").unwrap(), 2);
    let (code, shown, _) = rfgraph(&["quantize", text(&llama_f16()), text(&out), "Q8_0", "--pure"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("Q8_0") && shown.contains("bits per weight"), "{shown}");
}

#[test]
fn harmful_arguments_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    fs::copy(stories(), &input).unwrap();
    let before = fs::read(&input).unwrap();
    let (code, _, message) = rfgraph(&["quantize", text(&input), text(&input), "Q4_0"]);
    assert!(code == Some(2) && message.contains("is the file that is read"), "{message}");
    assert!(fs::read(&input).unwrap() == before);
    let rounded = inside("stories260K/stories260K-Q4_0.gguf");
    let (code, _, message) = rfgraph(&["quantize", text(&rounded), text(&out), "Q8_0"]);
    assert!(code == Some(1) && message.contains("--allow-requantize"), "{message}");
    assert!(!out.exists());
    let (code, ..) = rfgraph(&["quantize", text(&rounded), text(&out), "Q8_0", "--allow-requantize"]);
    assert!(code == Some(0) && out.exists());
    for wrong in [&["Q7_K"][..], &["Q4_0", "--output-type", "IQ1_S"]] {
        let (code, _, message) = rfgraph(&[&["quantize", text(&input), text(&out)], wrong].concat());
        assert!(code == Some(2) && message.contains("expected one of"), "{message}");
    }
    let (code, _, message) = rfgraph(&["quantize", text(&input), text(folder.path()), "Q4_0"]);
    assert!(code == Some(2) && message.contains("is not a file"), "{message}");
    let nowhere = folder.path().join("no/such/out.gguf");
    let (code, _, message) = rfgraph(&["quantize", text(&input), text(&nowhere), "Q4_0"]);
    assert!(code == Some(1) && message.contains("cannot write"), "{message}");
}

#[test]
fn nan_weights_are_named_and_leave_no_file() {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "any").unwrap();
    let mut data = vec![0u8; 4 * 64 * 40];
    data[4 * 64 * 37..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    writer.tensor("blk.0.ffn_up.weight", DType::F32, [64, 40], data).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    writer.write(&mut fs::File::create(&input).unwrap()).unwrap();
    let (code, _, message) = rfgraph(&["quantize", text(&input), text(&out), "Q4_0"]);
    assert!(code == Some(1) && message.contains("blk.0.ffn_up.weight"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "an unfinished file is left");
}

/// The mean negative log-likelihood of a text by its definition: each chunk is computed alone, with BOS in front, and
/// the tokens of its second half but the first of them count.
fn nll_by_definition(questions: &str, n_ctx: usize) -> f64 {
    let model = Model::open(stories()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let options = EncodeOptions { add_special: true, parse_special: false };
    let tokens = tokenizer.encode(questions, options);
    let mut session = Session::new(&model, &SessionOptions { n_ctx, ..SessionOptions::default() }).unwrap();
    let mut all = Vec::new();
    for chunk in tokens.chunks_exact(n_ctx) {
        let mut given = chunk.to_vec();
        given[0] = tokenizer.bos().unwrap();
        let mut rows = Vec::new();
        let id = session.open().unwrap();
        session.all_logits(id, &given, |row| rows.push(log_softmax(row))).unwrap();
        session.close(id).unwrap();
        all.extend((n_ctx / 2 + 1..n_ctx).map(|at| -rows[at - 1][chunk[at] as usize]));
    }
    all.iter().sum::<f64>() / all.len() as f64
}

/// The stories model with a NaN weight in the last norm.
fn write_with_nan(path: &Path) {
    let gguf = Gguf::open(&stories()).unwrap();
    let mut writer = GgufWriter::new();
    gguf.metadata().iter().for_each(|(key, value)| {
        writer.set(key, value.clone()).unwrap();
    });
    for info in gguf.tensors() {
        let mut data = gguf.data(info).to_vec();
        if info.name == "output_norm.weight" {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        writer.tensor(&info.name, info.dtype, info.shape, data).unwrap();
    }
    writer.write(&mut fs::File::create(path).unwrap()).unwrap();
}

#[test]
fn perplexity_agrees_with_its_definition_and_with_a_base() {
    let folder = tempfile::tempdir().unwrap();
    let (words, base, small) =
        (folder.path().join("text"), folder.path().join("base"), folder.path().join("q4.gguf"));
    let questions: String = demo::some_questions(40)
        .into_iter()
        .map(|(question, answer)| format!("{question} {answer}\n"))
        .collect();
    fs::write(&words, &questions).unwrap();
    let of = |model: &Path, options: &[&str]| {
        json(&[&["perplexity", text(model), "--json", "--device", "cpu"], options].concat())
    };
    let chunked = ["-f", text(&words), "-c", "64"];
    let original = of(&stories(), &[&chunked[..], &["--save-logits", text(&base)]].concat());
    let perplexity = original["perplexity"]["value"].as_f64().unwrap();
    assert!(perplexity > 1.0 && original["perplexity"]["error"].as_f64().unwrap() > 0.0, "{original}");
    assert_eq!(original["tokens"].as_u64().unwrap(), 31 * original["chunks"].as_u64().unwrap());
    let nll = original["mean_negative_log_likelihood"]["value"].as_f64().unwrap();
    let by_hand = nll_by_definition(&questions, 64);
    // Logits of at most 32 in f32, each a sum of about a hundred terms, in any order: below 1e-4.
    assert!(
        (nll - by_hand).abs() < 1e-4 && (perplexity - nll.exp()).abs() < 1e-9 * perplexity,
        "{nll} {by_hand}"
    );
    let same = of(&stories(), &["--kl-base", text(&base)]);
    let number = |report: &Value, key: &str| report["base"][key]["value"].as_f64().unwrap();
    // The base's log-probabilities are rounded by 2e-4: the divergence is about the square of that.
    assert!(number(&same, "mean_kl").abs() < 1e-6, "{same}");
    assert_eq!(same["perplexity"], original["perplexity"]);
    // The likelihoods of the text's tokens are stored in f32.
    assert!((number(&same, "perplexity") - perplexity).abs() < 1e-6 * perplexity);
    json(&["quantize", text(&stories()), text(&small), "Q4_0", "--json"]);
    let rounded = of(&small, &[&chunked[..], &["--kl-base", text(&base)]].concat());
    assert!((1e-4..1.0).contains(&number(&rounded, "mean_kl")), "{rounded}");
    assert!((0.3..1.0).contains(&number(&rounded, "same_top_token")), "{rounded}");
    let quantiles =
        ["median_kl", "kl_99_percent", "max_kl"].map(|key| rounded["base"][key].as_f64().unwrap());
    assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{rounded}");
    let (_, shown, _) = rfgraph(&["perplexity", text(&small), "--kl-base", text(&base), "--device", "cpu"]);
    assert!(shown.contains("KL divergence") && shown.contains("chunks of 64"), "{shown}");
    let (short, broken) = (folder.path().join("short"), folder.path().join("broken.gguf"));
    let whole = fs::read(&base).unwrap();
    fs::write(&short, &whole[..whole.len() - 1]).unwrap();
    write_with_nan(&broken);
    let (code, _, message) =
        rfgraph(&[&["perplexity", text(&broken), "--device", "cpu"], &chunked[..]].concat());
    assert!(code == Some(1) && message.contains("NaN"), "{message}");
    let refused: [(&[&str], &str); 5] = [
        (&["--kl-base", text(&short)], "what its header says takes"),
        (&["-f", text(&words), "-c", "32", "--kl-base", text(&base)], "nothing can be compared"),
        (&["--kl-base", text(&words)], "a file of log-probabilities (--save-logits)"),
        (&["-f", text(&words), "-c", "100000"], "two chunks"),
        (&["--kl-base", "no/such"], "cannot read"),
    ];
    // Neither an input file nor a folder is replaced, and no file by work that fails.
    let copy = folder.path().join("copy.gguf");
    fs::copy(stories(), &copy).unwrap();
    for target in [&copy, &words, &folder.path().to_owned()] {
        let options =
            ["perplexity", text(&copy), "-f", text(&words), "-c", "64", "--save-logits", text(target)];
        let (code, _, message) = rfgraph(&options);
        assert!(code == Some(2) && message.contains("give another name"), "{message}");
    }
    assert!(fs::read(&copy).unwrap() == fs::read(stories()).unwrap());
    assert_eq!(fs::read_to_string(&words).unwrap(), questions);
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        left.into_iter().all(|name| !text(Path::new(&name)).contains(".part")),
        "an unfinished file is left"
    );
    for (options, part) in refused {
        let (code, _, message) =
            rfgraph(&[&["perplexity", text(&stories()), "--device", "cpu"], options].concat());
        assert!(code == Some(1) && message.contains(part), "{options:?}: {message}");
    }
}

/// Logits of the questions with their answers.
fn demo_logits(model: &Model) -> Vec<Vec<f32>> {
    let tokenizer = model.tokenizer().unwrap();
    let template = model.chat_template(&tokenizer).unwrap();
    let threads = Some(std::num::NonZeroUsize::MIN);
    let options = SessionOptions { n_ctx: 512, threads, ..SessionOptions::default() };
    let mut session = Session::new(model, &options).unwrap();
    let mut rows = Vec::new();
    for (question, answer) in demo::some_questions(100) {
        let prompt = template.render(&[Message::new("user", &question)], true).unwrap() + &answer;
        let id = session.open().unwrap();
        session.all_logits(id, &tokenizer.encode_chat(&prompt), |row| rows.push(row.to_vec())).unwrap();
        session.close(id).unwrap();
    }
    rows
}

/// Every mix answers every question, and is at most a tenth further from F16 than another program's file, if there is
/// one. It takes minutes.
#[test]
fn the_demo_model_in_every_mix_answers_every_question() {
    if std::env::var_os("RFGRAPH_FIXTURES").is_none() {
        skipped_for_want_of_data(
            "this takes minutes; it runs where RFGRAPH_FIXTURES names the folder above demo/",
        );
        return;
    }
    let Some(folder) = outside("demo") else { return };
    let original = Gguf::open(&folder.join("demo-f16.gguf")).unwrap();
    let base = demo_logits(&Model::open(folder.join("demo-f16.gguf")).unwrap());
    for mix in Mix::all().map(Mix::name).filter(|mix| *mix != "F32") {
        let model = Model::from_gguf(Gguf::from_bytes(quantized(&original, mix, 2)).unwrap()).unwrap();
        let options = SessionOptions { n_ctx: 512, ..SessionOptions::default() };
        demo::Answerer::new(&model, &options, &SessionExtras::default()).check(mix, &demo::questions());
        let theirs = folder.join(format!("demo-{mix}.gguf"));
        if !theirs.exists() {
            continue;
        }
        let theirs = Model::open(theirs).unwrap();
        for info in theirs.gguf().tensors() {
            assert_eq!(model.gguf().tensor(&info.name).unwrap().dtype, info.dtype, "{mix} {}", info.name);
        }
        let (our, their) = (mean_kl(&base, &demo_logits(&model)), mean_kl(&base, &demo_logits(&theirs)));
        println!("{mix}: KL divergence {our:.6}, of another program's file {their:.6}");
        assert!(our <= 1.1 * their, "{mix}: {our}, theirs {their}");
    }
}

/// A model in two files becomes one.
#[test]
fn a_split_model_becomes_whole() {
    let folder = tempfile::tempdir().unwrap();
    let part = |no: u16| folder.path().join(format!("m-0000{}-of-00002.gguf", no + 1));
    for no in 0..2u16 {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "any").unwrap().set("general.alignment", 64u32).unwrap();
        writer.set("split.no", no).unwrap().set("split.count", 2u16).unwrap();
        writer.set("split.tensors.count", 2i32).unwrap();
        let data: Vec<u8> = (0..256u16).flat_map(|i| (f32::from(i) - 99.0).to_le_bytes()).collect();
        writer.tensor(&format!("blk.{no}.ffn_up.weight"), DType::F32, [64, 4], data).unwrap();
        writer.write(&mut fs::File::create(part(no)).unwrap()).unwrap();
    }
    let out = folder.path().join("out.gguf");
    let (code, _, message) = rfgraph(&["quantize", text(&part(0)), text(&out), "Q8_0"]);
    assert_eq!(code, Some(0), "{message}");
    let file = Gguf::open(&out).unwrap();
    let keys: Vec<&str> = file.metadata().iter().map(|(key, _)| key).collect();
    let kept = ["general.architecture", "general.alignment"];
    assert_eq!(keys, [&kept[..], &["general.file_type", "general.quantization_version"]].concat());
    assert_eq!((file.alignment(), file.tensors().len()), (64, 2));
    assert!(file.tensors().iter().all(|info| info.dtype == DType::Q8_0));
    // The second part is an input, too.
    let (code, _, message) = rfgraph(&["quantize", text(&part(0)), text(&part(1)), "Q8_0"]);
    assert!(code == Some(2) && message.contains("is the file that is read"), "{message}");
}
