//! The built program from outside: its output, its streams, and its exit codes.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use rfgraph::model::Model;
use rfgraph::plan::Plan;
use serde_json::Value;

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
    command.args(args).env_remove("RFGRAPH_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program with `input` on its standard input.
fn with_input(args: &[&str], input: &str) -> Output {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The standard output of a successful run that writes nothing to standard error.
fn stdout(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {complaints}");
    assert_eq!(complaints, "", "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// The exit code and error message of a run that writes nothing to standard output.
pub fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = command(args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

pub const SUM: &str = "What is 347 + 285?";

#[test]
fn a_prompt_is_answered_on_standard_output_alone() {
    assert_eq!(stdout(&["run", "-p", SUM]), "632\n");
}

#[test]
fn a_prompt_comes_from_standard_input_or_a_file() {
    let output = with_input(&["run"], &format!("{SUM}\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "632\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{SUM}\r\n")).unwrap();
    assert_eq!(stdout(&["run", "-f", file.path().to_str().unwrap()]), "632\n");
}

#[test]
fn json_has_text_tokens_counts_and_timings() {
    let report = json(&["run", "-p", SUM, "--json"]);
    assert_eq!(report["text"], "632");
    assert_eq!(report["stop"], "end");
    let tokens = report["tokens"].as_array().unwrap().len();
    assert!(tokens > 0);
    assert_eq!(report["counts"]["generated"], tokens);
    assert!(report["counts"]["prompt"].as_u64().unwrap() > 10);
    assert!(report["timings"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn gpu_options_without_a_gpu_are_refused() {
    for option in [["--gpu-layers", "3"], ["--timeout", "5"]] {
        let args = [&["run", "-p", SUM, "--device", "cpu"][..], &option].concat();
        let (code, complaint) = failure(&args);
        assert_eq!(code, Some(2), "{complaint}");
        assert!(complaint.contains("--device cpu takes none"), "{complaint}");
    }
}

#[test]
fn n_limits_the_answer_and_a_full_context_ends_it() {
    let report = json(&["run", "--raw", "-p", "Once upon a time", "-n", "5", "--json"]);
    assert_eq!((&report["stop"], &report["counts"]["generated"]), (&"limit".into(), &5.into()));
    let nothing = json(&["run", "-p", SUM, "-n", "0", "--json"]);
    assert_eq!((&nothing["stop"], &nothing["text"]), (&"limit".into(), &"".into()));
    // The last token is known but does not fit the context: it is not computed.
    let full = command(&["run", "-p", SUM, "-c", "22", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&full.stdout).unwrap();
    let counts = &report["counts"];
    let total = counts["prompt"].as_u64().unwrap() + counts["generated"].as_u64().unwrap();
    assert_eq!((&report["stop"], total), (&"context".into(), 23));
    let warning = String::from_utf8(full.stderr).unwrap();
    assert!(warning.contains("context of 22 tokens is full; -c"), "{warning}");
}

#[test]
fn the_same_seed_gives_the_same_text_and_others_give_others() {
    let story = |options: &[&str]| {
        stdout(&[&["run", "--raw", "-p", "Once upon a time", "-n", "24"], options].concat())
    };
    assert_eq!(story(&["--temp", "0"]), story(&["--temp", "0", "--seed", "9"]));
    let bold =
        |seed| story(&["--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", seed]);
    assert_eq!(bold("1"), bold("1"));
    assert_ne!(bold("1"), bold("2"));
    // The number of threads does not change a bit.
    assert_eq!(story(&["--temp", "1", "-t", "1"]), story(&["--temp", "1", "-t", "2"]));
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let report = json(&["run", "-p", SUM, "--json", "--stop", "x", "--stop", "2"]);
    assert_eq!((&report["text"], &report["stop"]), (&"63".into(), &"stop".into()));
    assert_eq!(stdout(&["run", "-p", SUM, "--stop", "32"]), "6\n");
    let (code, complaint) = failure(&["run", "-p", SUM, "--stop", ""]);
    assert!(code == Some(2) && complaint.contains("an empty text would end"), "{complaint}");
}

#[test]
fn log_probabilities_come_with_json() {
    let report = json(&["run", "-p", SUM, "--json", "--logprobs", "2", "--temp", "0"]);
    let told = report["logprobs"].as_array().unwrap();
    assert_eq!(told.len(), report["tokens"].as_array().unwrap().len());
    let mut text = String::new();
    for (one, id) in told.iter().zip(report["tokens"].as_array().unwrap()) {
        assert_eq!(&one["id"], id);
        text += one["text"].as_str().unwrap();
        // The most probable token was chosen.
        let top = one["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["id"], &top[0]["logprob"]), (2, id, &one["logprob"]));
        let [first, second] = [0, 1].map(|i| top[i]["logprob"].as_f64().unwrap());
        assert!(second <= first && first <= 0.0 && first.exp() + second.exp() <= 1.0 + 1e-9);
    }
    assert_eq!(text, "632");
    assert_eq!(json(&["run", "-p", SUM, "--json"]).get("logprobs"), None);
    assert_eq!(failure(&["run", "-p", SUM, "--logprobs", "2"]).0, Some(2));
}

#[test]
fn samplers_and_biases_are_followed() {
    let first = json(&["run", "-p", SUM, "--json", "--temp", "0"])["tokens"][0].as_u64().unwrap();
    let without = json(&["run", "-p", SUM, "--json", "--temp", "0", "-l", &format!("{first}-inf")]);
    assert_ne!(without["tokens"][0], first);
    let long = json(&["run", "-p", SUM, "--json", "--ignore-eos", "-n", "30"]);
    assert_eq!((&long["stop"], &long["counts"]["generated"]), (&"limit".into(), &30.into()));
    assert_eq!(stdout(&["run", "-p", SUM, "--samplers", "top_k", "--top-k", "1"]), "632\n");
    assert_eq!(stdout(&["run", "-p", SUM, "--mirostat", "2", "--mirostat-ent", "0"]), "632\n");
    let (code, complaint) = failure(&["run", "-p", SUM, "--samplers", "top_k;warmth"]);
    assert!(code == Some(2) && complaint.contains("there is no sampler `warmth`"), "{complaint}");
}

#[cfg(feature = "grammar")]
#[test]
fn an_answer_follows_its_grammar_or_schema() {
    let schema = r#"{"type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 9999}},
        "required": ["sum"], "additionalProperties": false}"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), schema).unwrap();
    let path = file.path().to_str().unwrap();
    for given in [path, schema] {
        let text = stdout(&["run", "-p", SUM, "--temp", "0", "--json-schema", given]);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value["sum"].is_i64(), "{text}");
    }
    fs::write(file.path(), "root ::= \"It is \" [0-9]{1,4} \".\"").unwrap();
    let text = stdout(&["run", "-p", SUM, "--temp", "0", "--grammar", path]);
    let number = text.strip_prefix("It is ").and_then(|text| text.strip_suffix(".\n")).unwrap();
    assert!(!number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()), "{text}");
    fs::write(file.path(), "root ::= nothing").unwrap();
    let (code, complaint) = failure(&["run", "-p", SUM, "--grammar", path]);
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains(path) && complaint.contains("line 1: there is no rule `nothing`"),
        "{complaint}"
    );
}

#[test]
fn a_system_message_is_part_of_the_prompt() {
    let tokens = |options: &[&str]| {
        json(&[&["run", "-p", SUM, "--json"], options].concat())["counts"]["prompt"].as_u64().unwrap()
    };
    assert!(tokens(&["--system", "Be short."]) > tokens(&[]));
}

#[test]
fn errors_have_a_message_and_an_exit_code() {
    let (code, message) = failure(&["run", "no/such.gguf", "-p", "hi"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("no file or model is named `no/such.gguf`"), "{message}");
    let (code, message) = failure(&["run", "./no/such.gguf", "-p", "hi"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("./no/such.gguf") && message.contains("No such file"), "{message}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), b"This is no model, but it is long enough.").unwrap();
    let (code, message) = failure(&["run", file.path().to_str().unwrap(), "-p", "hi"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("byte 0: magic") && message.contains("not a GGUF file"), "{message}");
    let long = "word ".repeat(600);
    let (code, message) = failure(&["run", "-p", &long]);
    assert_eq!(code, Some(1));
    assert!(message.contains("the context is full") && message.contains("-c"), "{message}");
    let usage: [&[&str]; 10] = [
        &["run", "--no-such-option"],
        &["run", "-p", "a", "-f", "b"],
        &["run", "-p", "a", "--raw", "--system", "b"],
        &["run", "-p", "a", "--temp", "warm"],
        &["run", "-p", "a", "--cache-type", "q6_k"],
        &["run", "-p", "a", "--cache-type-v", "i32"],
        &["run", "-p", "a", "--memory-fraction", "1.5"],
        &["run", "-p", "a", "-t", "0"],
        &["tokenize", "-p", "1", "--decode", "--add-special"],
        &["bench", "-p", "0", "-n", "0"],
    ];
    for args in usage {
        let (code, message) = failure(args);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(message.starts_with("error: "), "{args:?}: {message}");
    }
}

/// A context larger than any memory is an error, not an abort.
#[test]
fn impossible_context_sizes_are_refused() {
    for ctx in ["99999999999", "18446744073709551615", "18446744073709551616", "2147483647"] {
        let commands: [&[&str]; 4] =
            [&["run", "-p", "hi"], &["graph"], &["inspect"], &["inspect", "--json", "--tensors"]];
        for args in commands {
            let (code, message) = failure(&[args, &["-c", ctx]].concat());
            assert_eq!(code, Some(2), "{args:?} -c {ctx}: {message}");
            assert!(message.starts_with("error: ") && message.contains("--ctx"), "{message}");
        }
    }
    // `run` refuses the longest countable context for its memory; `inspect` and `graph` only predict it.
    let longest = "2147483616";
    let (code, message) = failure(&["run", "-p", "hi", "-c", longest, "--memory-fraction", "0.001"]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("block tables") && message.contains("(-c)"), "{message}");
    let slots = json(&["inspect", "--json", "-c", longest])["memory"]["kv_cache"].as_u64().unwrap();
    assert!(slots > 2_147_483_616, "{slots}");
    assert!(stdout(&["graph", "-c", longest]).contains(longest));
}

#[test]
fn too_little_memory_is_refused_before_any_is_taken() {
    let (code, message) = failure(&["run", "-p", "hi", "--memory-fraction", "0.00000001"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("--memory-fraction"), "{message}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = command(&["graph"]).spawn().unwrap();
    // The output exceeds the buffer of a pipe.
    let mut start = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// The first Ctrl-C ends the work after the current chunk, with an exit code of its own.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_long_prompt() {
    use std::io::BufRead;
    let mut child =
        command(&["run", "-v", "-c", "30000", "--ubatch", "64"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("word ".repeat(12_000).as_bytes()).unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("loaded in") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it never loaded");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(!rest.contains("error"), "{rest}");
}

#[test]
fn tokenize_and_decode_are_inverse() {
    let text = "  What is 347 + 285?\n<|im_end|> é🙂 ";
    let ids = stdout(&["tokenize", "-p", text]);
    assert!(ids.ends_with('\n') && ids.trim_end().split(' ').all(|id| id.parse::<u32>().is_ok()), "{ids}");
    assert_eq!(stdout(&["tokenize", "--decode", "-p", &ids]), text);
    let encoded = json(&["tokenize", "--json", "-p", text]);
    let listed: Vec<String> = encoded["tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(listed.join(" "), ids.trim_end());
    assert_eq!(encoded["pieces"].as_array().unwrap().len(), listed.len());
    assert_eq!(json(&["tokenize", "--decode", "--json", "-p", &ids])["text"], text);
}

#[test]
fn options_control_special_tokens() {
    let ids = |options: &[&str]| -> Vec<u32> {
        let line = stdout(&[&["tokenize", "-p", "<|im_end|>"], options].concat());
        line.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [2]);
    assert!(ids(&["--no-parse-special"]).len() > 1);
    assert_eq!(ids(&["--add-special"]), [0, 2]);
    let (code, message) = failure(&["tokenize", "--decode", "-p", "1 x"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("word 2 is `x`"), "{message}");
    let (_, message) = failure(&["tokenize", "--decode", "-p", "1792"]);
    assert!(message.contains("vocabulary of 1792"), "{message}");
}

/// KL divergence of the distributions of two rows of logits.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |row: &[f32]| row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let (log_p, log_q) = (log_sum(p), log_sum(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let (p, q) = (f64::from(p) - log_p, f64::from(q) - log_q);
        p.exp() * (p - q)
    };
    p.iter().zip(q).map(term).sum()
}

#[test]
fn logits_are_one_row_for_each_token() {
    let folder = tempfile::tempdir().unwrap();
    let (ids, out) = (folder.path().join("ids"), folder.path().join("logits"));
    let (ids, out) = (ids.to_str().unwrap(), out.to_str().unwrap());
    fs::write(ids, stdout(&["tokenize", "--add-special", "-p", &SUM.repeat(3)])).unwrap();
    let n = fs::read_to_string(ids).unwrap().split_whitespace().count();
    let rows = |options: &[&str]| -> Vec<f32> {
        assert_eq!(stdout(&[&["logits", "--tokens", ids, "--out", out], options].concat()), "");
        let bytes = fs::read(out).unwrap();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let whole = rows(&[]);
    assert_eq!(whole.len(), n * 1792);
    assert!(whole.iter().all(|logit| logit.is_finite()));
    // An F32 KV cache rounds differently, which may flip a rounding of the int8 activations: the answer may differ as
    // much as Q8_0 may from the exact model, a mean KL divergence of 1e-4.
    let chunks = rows(&["--ubatch", "7", "--cache-type", "f32"]);
    let pairs = whole.chunks_exact(1792).zip(chunks.chunks_exact(1792));
    let mean = pairs.map(|(p, q)| divergence(p, q)).sum::<f64>() / n as f64;
    assert!(mean < 1e-4, "{mean}");
    fs::write(ids, " \n").unwrap();
    let (code, message) = failure(&["logits", "--tokens", ids, "--out", out]);
    assert!(code == Some(1) && message.contains("holds no token ids"), "{message}");
}

#[test]
fn inspect_prints_json_and_text() {
    let report = json(&["inspect", "--tensors", "--json"]);
    assert_eq!(report["hyper_parameters"]["architecture"], "llama");
    assert_eq!(report["file"]["tensors"], report["tensors"].as_array().unwrap().len());
    let memory = |name: &str| report["memory"][name].as_u64().unwrap();
    assert_eq!(memory("weights") + memory("kv_cache") + memory("arena"), memory("total"));
    let larger = json(&["inspect", "--json", "-c", "1024", "--cache-type", "f32"]);
    assert!(larger["tensors"].is_null());
    assert_eq!(larger["memory"]["kv_cache"].as_u64().unwrap(), 4 * memory("kv_cache"));
    // Blocks of 32 elements: 34 bytes of keys and 18 of values, where F16 takes 64 of each.
    let blocks = json(&["inspect", "--json", "--cache-type", "q8_0", "--cache-type-v", "q4_0"]);
    assert_eq!(blocks["memory"]["kv_cache"].as_u64().unwrap() * 128, memory("kv_cache") * (34 + 18));
    assert_eq!(blocks["memory"]["cache_types"]["v"], "Q4_0");
    let text = stdout(&["inspect", "--tensors"]);
    for part in ["general.architecture", "blk.5.ffn_down.weight", "KV cache", "[string; 1792]"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// A session takes the memory that `inspect` predicts.
#[test]
fn predicted_memory_equals_a_sessions_memory() {
    use rfgraph::model::{CacheTypes, MemoryNeed, Session, SessionOptions};
    use rfgraph::tensor::DType;
    let model = Model::demo().unwrap();
    let types = |k, v| CacheTypes { k, v };
    for (n_ctx, ubatch, n_sequences, cache_types) in [
        (0, 512, 1, CacheTypes::default()),
        (100, 64, 1, types(DType::Q8_0, DType::Q4_0)),
        (300, 16, 3, types(DType::BF16, DType::F32)),
    ] {
        let ubatch = Some(ubatch);
        let options = SessionOptions { n_ctx, ubatch, n_sequences, cache_types, ..SessionOptions::default() };
        let need = MemoryNeed::of(&model, &options).unwrap();
        let session = Session::new(&model, &options).unwrap();
        let held = |session: &Session, name: &str| {
            let holders = session.executors().next().unwrap().budget().holders();
            holders.iter().find(|(holder, _)| holder == name).map(|(_, bytes)| *bytes)
        };
        assert_eq!(held(&session, "KV cache"), Some(need.kv_cache));
        assert_eq!(held(&session, "arena"), Some(need.arena));
    }
}

#[test]
fn a_file_of_an_unknown_architecture_is_inspected_and_not_run() {
    let mut writer = rfgraph::gguf::GgufWriter::new();
    writer.set("general.architecture", "marvel").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = fs::File::create(file.path()).unwrap();
    writer.write(&mut out).unwrap();
    let path = file.path().to_str().unwrap();
    let report = json(&["inspect", path, "--json"]);
    assert!(report["problem"].as_str().unwrap().contains("`marvel`"), "{report}");
    assert!(report["memory"].is_null());
    let (code, message) = failure(&["run", path, "-p", "hi"]);
    assert!(code == Some(1) && message.contains("`marvel`") && message.contains("llama"), "{message}");
}

#[test]
fn a_plan_is_shown_as_text_drawing_and_json() {
    let text = stdout(&["graph", "-t", "2"]);
    insta::assert_snapshot!("decode_plan_of_the_demo_model", text);
    let plan: Plan = serde_json::from_str(&stdout(&["graph", "-t", "2", "--format", "json"])).unwrap();
    plan.check().unwrap();
    assert_eq!(plan.to_string(), text);
    let dot = stdout(&["graph", "-t", "2", "--format", "dot"]);
    assert_eq!(dot, plan.dot().to_string());
    assert!(dot.starts_with("digraph") && dot.ends_with("}\n"));
    let prefill: Plan =
        serde_json::from_str(&stdout(&["graph", "--tokens", "33", "--format", "json"])).unwrap();
    prefill.check().unwrap();
    assert_eq!(prefill.input("tokens").unwrap().1.operand.desc.shape.sizes(), [33]);
}

#[test]
fn a_plan_is_written_as_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.html");
    let page = ["graph", "-t", "2", "--format", "html"];
    assert_eq!(stdout(&[&page[..], &["-o", path.to_str().unwrap()]].concat()), "");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, stdout(&page));
    let plan: Plan = serde_json::from_str(&stdout(&["graph", "-t", "2", "--format", "json"])).unwrap();
    assert!(plan.steps.iter().all(|step| written.contains(&format!("\"name\":\"{}\"", step.name))));
    assert!(written.len() < 300_000, "{} bytes", written.len());
    let (code, message) = failure(&[&page[..], &["-o", folder.path().to_str().unwrap()]].concat());
    assert!(code == Some(2) && message.contains("not a file"), "{message}");
}

/// The number of steps in a trace.
fn traced_steps(path: &std::path::Path) -> usize {
    let trace: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["cat"] == "step").count()
}

#[test]
fn a_trace_has_the_steps_of_every_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let file = path.to_str().unwrap();
    let plan = |tokens| -> Plan {
        let args = ["graph", "-t", "2", "--tokens", tokens, "--format", "json"];
        serde_json::from_str(&stdout(&args)).unwrap()
    };
    let (prompt, token) = (plan("16").steps.len(), plan("1").steps.len());
    let bench = ["bench", "-t", "2", "-p", "16", "-n", "3", "-r", "1", "--device", "cpu", "--trace", file];
    stdout(&bench);
    assert_eq!(traced_steps(&path), prompt + 3 * token);
    assert_eq!(stdout(&["run", "-p", SUM, "--device", "cpu", "--trace", file]), "632\n");
    assert!(traced_steps(&path) > prompt + token);
    let (code, message) = failure(&["run", "-p", SUM, "--trace", folder.path().to_str().unwrap()]);
    assert!(code == Some(2) && message.contains("--trace"), "{message}");
}

#[test]
fn a_benchmark_has_rates_and_their_limit() {
    let report = json(&["bench", "-p", "16", "-n", "4", "-d", "8", "-r", "2", "--json"]);
    let tests = report["tests"].as_array().unwrap();
    let names: Vec<&str> = tests.iter().map(|test| test["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp16 @ d8", "tg4 @ d8"]);
    for test in tests {
        assert_eq!(test["tokens_per_second"].as_array().unwrap().len(), 2);
        assert!(test["mean_tokens_per_second"].as_f64().unwrap() > 0.0);
    }
    assert!(report["read_bytes_per_second"].as_f64().unwrap() > 1e8);
    // A token of the demo model reads most of its 5.5 MB of weights.
    let bytes = report["decode_bytes_per_step"].as_u64().unwrap();
    assert!((5_000_000..6_000_000).contains(&bytes), "{bytes}");
    assert!(report["decode_share"].as_f64().unwrap() > 0.0);
    let table = stdout(&["bench", "-p", "0", "-n", "2", "-r", "1"]);
    assert!(table.contains("| tg2 |") && table.contains("GB/s"), "{table}");
}

/// Rates count the tokens of all sequences. They share one read of the weights per step; each reads its own cache.
#[test]
fn benchmark_counts_the_tokens_of_all_sequences() {
    let bench = |sequences: &str| {
        json(&["bench", "-s", sequences, "-p", "40", "-n", "3", "-d", "8", "-r", "1", "--json"])
    };
    let (one, three) = (bench("1"), bench("3"));
    let name =
        |report: &serde_json::Value, test: usize| report["tests"][test]["name"].as_str().unwrap().to_string();
    assert_eq!([name(&one, 0), name(&one, 1)], ["pp40 @ d8", "tg3 @ d8"]);
    assert_eq!([name(&three, 0), name(&three, 1)], ["pp40 x3 @ d8", "tg3 x3 @ d8"]);
    for test in three["tests"].as_array().unwrap() {
        assert_eq!((&test["sequences"], &test["depth"]), (&3.into(), &8.into()));
        assert!(test["mean_tokens_per_second"].as_f64().unwrap() > 0.0);
    }
    assert_eq!((&one["ubatch"], &three["ubatch"]), (&48.into(), &144.into()), "prompts share steps");
    let bytes = |report: &serde_json::Value| report["decode_bytes_per_step"].as_u64().unwrap();
    let cache = bytes(&three) - bytes(&one);
    assert!(cache > 0 && cache < bytes(&one) / 10, "the weights are read once: {cache} of {}", bytes(&one));
    let table = stdout(&["bench", "-s", "3", "-p", "0", "-n", "2", "-r", "1"]);
    assert!(table.contains("| tg2 x3 |") && table.contains("a step of 3 generated tokens reads"), "{table}");
    let (code, message) = failure(&["bench", "-s", "1000000000", "-p", "64", "-n", "0"]);
    assert!(code == Some(1) && message.contains("1000000000 sequence"), "{message}");
}

#[test]
fn texts_become_vectors_of_length_one() {
    let numbers = |line: &str| line.split(' ').map(|x| x.parse().unwrap()).collect::<Vec<f64>>();
    let lines = stdout(&["embed", "-p", "A dog.", "-p", "The girl had a little cat."]);
    let vectors: Vec<Vec<f64>> = lines.lines().map(numbers).collect();
    assert_eq!(vectors.len(), 2);
    for vector in &vectors {
        assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-6);
    }
    // The same texts from a file, one text alone, and the JSON object.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "A dog.\n\nThe girl had a little cat.\r\n").unwrap();
    assert_eq!(stdout(&["embed", "-f", file.path().to_str().unwrap()]), lines);
    let report = json(&["embed", "-p", "A dog.", "--pooling", "last", "--no-normalize", "--json"]);
    assert_eq!((&report["pooling"], &report["normalized"]), (&"last".into(), &false.into()));
    let embedding = &report["embeddings"][0];
    assert!(embedding["tokens"].as_u64().unwrap() > 1);
    assert_eq!(embedding["values"].as_array().unwrap().len(), vectors[0].len());

    let (code, message) = failure(&["embed", "-p", "A dog.", "--pooling", "sum"]);
    assert!(code == Some(2) && message.contains("mean, last, cls"), "{message}");
    let (code, message) = failure(&["embed"]);
    assert!(code == Some(1) && message.contains("no text"), "{message}");
}

#[test]
fn context_shift_continues_an_answer_past_the_end_of_the_context() {
    let story = |options: &[&str]| {
        let args = [&[
            "run",
            "--raw",
            "-p",
            "Once upon a time",
            "-n",
            "40",
            "-c",
            "16",
            "--temp",
            "0",
            "--json",
            "-v",
        ]];
        let output = command(&[args[0], options].concat()).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (report, String::from_utf8(output.stderr).unwrap())
    };
    let (stopped, warning) = story(&[]);
    assert_eq!(stopped["stop"], "context");
    assert!(warning.contains("--context-shift"), "{warning}");
    for option in ["--context-shift", "--context-shift=3"] {
        let (whole, told) = story(&[option]);
        assert!(whole["stop"] == "limit" || whole["stop"] == "end", "{whole}");
        assert!(whole["counts"]["generated"].as_u64() > stopped["counts"]["generated"].as_u64());
        assert!(told.contains("are dropped"), "{told}");
    }
    // A prompt that does not fit is an error, or is shortened.
    let long = "one two three four five ".repeat(20);
    let (code, message) = failure(&["run", "--raw", "-p", &long, "-c", "16"]);
    assert!(code == Some(1) && message.contains("the context is full"), "{message}");
    let output =
        command(&["run", "--raw", "-p", &long, "-c", "16", "-n", "2", "--context-shift"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("shortened"));
    let (code, message) = failure(&["run", "-p", "hi", "-c", "16", "--context-shift=16"]);
    assert!(code == Some(2) && message.contains("keeps all"), "{message}");
}
