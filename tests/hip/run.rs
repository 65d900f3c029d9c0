//! Whole models on a GPU: right answers, the CPU's logits, the same bits every time, and the number of calls.

use std::collections::BTreeMap;
use std::process::Command;

use rfgraph::engine::{GenerateOptions, Generation};
use rfgraph::exec::HipOptions;
use rfgraph::hip::platform::sim::{Checks, Config, SimHandle};
use rfgraph::model::{
    DeviceChoice, Model, ModelError, Output, RowOutput, Rows, Session, SessionExtras, SessionOptions,
};
use rfgraph::sampling::{Needs, Penalties, Sampler, SamplerParams, Temperature, TopK};
use rfgraph::text::Message;

use crate::support::demo::{Answerer, greedy, some_questions};
use crate::support::gpu::{self, Gpu, config};
use crate::support::inside::inside;
use crate::support::reference::distance;
use crate::support::sessions::{cut, drive, largest};

const QUESTION: &str = "What is 347 + 285?";

/// Simulated devices of both wave sizes, and the real one if available.
fn gpus(checks: Checks) -> Vec<Gpu> {
    let sims = [32, 64].map(|wave| Gpu::simulated(Config { checks, ..config(wave) }));
    sims.into_iter().chain(Gpu::real()).collect()
}

fn options(device: DeviceChoice) -> SessionOptions {
    SessionOptions { n_ctx: 128, ubatch: Some(32), device, ..SessionOptions::default() }
}

fn session(model: &Model, options: &SessionOptions, hip: HipOptions) -> Result<Session, ModelError> {
    Session::with(model, options, &SessionExtras { hip, ..SessionExtras::default() })
}

fn on(gpu: &Gpu, model: &Model) -> Session {
    session(model, &options(gpu.choice()), gpu::options()).unwrap()
}

fn calls(sim: &SimHandle) -> BTreeMap<&'static str, u64> {
    sim.counts().into_iter().collect()
}

/// The calls made between two counts.
fn between(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let since = |(name, n): (&&'static str, &u64)| (*name, n - before.get(*name).copied().unwrap_or(0));
    after.iter().map(since).filter(|(_, n)| *n > 0).collect()
}

/// The calls include none that allocates, frees, or must not happen while work runs.
fn is_quiet(calls: &BTreeMap<&'static str, u64>) -> bool {
    let loud = ["Malloc", "Free", "Create", "Destroy", "Module", "Instantiate", "Capture"];
    !calls.keys().any(|name| loud.iter().any(|part| name.contains(part)) && *name != "hipModuleLaunchKernel")
}

fn prompt(model: &Model) -> Vec<u32> {
    let tokenizer = model.tokenizer().unwrap();
    let template = model.chat_template(&tokenizer).unwrap();
    tokenizer.encode_chat(&template.render(&[Message::new("user", QUESTION)], true).unwrap())
}

/// Repeats work until all its plans have been recorded; every repetition must give the same result.
fn until_steady<T: PartialEq>(session: &mut Session, mut work: impl FnMut(&mut Session) -> T) -> T {
    let first = work(session);
    for _ in 0..12 {
        let before = session.hip().unwrap().unsteady_runs();
        assert!(work(session) == first, "the answer differs step by step, recorded or replayed");
        if session.hip().unwrap().unsteady_runs() == before {
            return first;
        }
    }
    panic!("plans are still not recorded");
}

#[test]
fn the_readmes_question_takes_one_wait_a_token() {
    let model = Model::demo().unwrap();
    let (tokenizer, prompt) = (model.tokenizer().unwrap(), prompt(&model));
    for gpu in gpus(Checks::Memory) {
        let mut session = on(&gpu, &model);
        let id = session.open().unwrap();
        // Repeat until the recordings of both chunk sizes of the prompt are replayed.
        let mut next = until_steady(&mut session, |session| {
            cut(session, id, 0);
            greedy(session.prefill(id, &prompt).unwrap())
        });
        {
            cut(&mut session, id, 0);
            let before = gpu.sim.as_ref().map(calls);
            assert_eq!(greedy(session.prefill(id, &prompt).unwrap()), next);
            if let (Some(before), Some(sim)) = (before, &gpu.sim) {
                let calls = between(&before, &calls(sim));
                let chunks = calls["hipGraphLaunch"];
                assert!(is_quiet(&calls), "{calls:?}");
                assert_eq!(calls.get("hipEventRecord"), Some(&chunks), "one fence a chunk: {calls:?}");
                assert_eq!(calls.keys().len(), 3, "{calls:?}");
            }
        }
        let mut answer = Vec::new();
        while !tokenizer.is_end_of_generation(next) && answer.len() < 16 {
            answer.push(next);
            let before = gpu.sim.as_ref().map(calls);
            let outputs = session.step(&[Rows::of(id, &[next]).want(Output::Argmax)]).unwrap();
            let RowOutput::Argmax(token) = outputs.last(0) else { panic!("{outputs:?}") };
            next = token;
            if let (Some(before), Some(sim), true) = (before, &gpu.sim, answer.len() > 2) {
                let mut calls = between(&before, &calls(sim));
                assert!(calls.remove("hipEventQuery").unwrap() > 0);
                let replay = [("hipEventRecord", 1), ("hipGraphLaunch", 1)];
                assert_eq!(calls, replay.into(), "one launch, one event, and nothing else");
            }
        }
        assert_eq!(tokenizer.decode(&answer, false).trim(), "632");
        drop(session);
        if let Some(sim) = &gpu.sim {
            assert_eq!(sim.stalls(), 0, "nothing was freed while work was queued");
            sim.assert_no_fault();
            sim.assert_no_leak();
        }
    }
}

/// Without recordings: every kernel is launched by itself, but nothing is allocated and one event is waited for.
#[test]
fn a_step_by_step_token_takes_one_wait() {
    let model = Model::demo().unwrap();
    let gpu = Gpu::simulated(config(32));
    let hip = HipOptions { graphs: false, ..gpu::options() };
    let mut session = session(&model, &options(gpu.choice()), hip).unwrap();
    let id = session.open().unwrap();
    session.prefill(id, &prompt(&model)).unwrap();
    for _ in 0..2 {
        largest(&mut session, id, 300);
    }
    let before = calls(gpu.sim());
    largest(&mut session, id, 300);
    let calls = between(&before, &calls(gpu.sim()));
    assert!(is_quiet(&calls), "{calls:?}");
    // One orders the uploads before the steps, one the steps before the downloads; no stream waits for itself.
    assert_eq!(calls["hipStreamWaitEvent"], 2, "{calls:?}");
    // Inputs are adjacent and are uploaded with one copy; only the token is downloaded.
    assert!(calls["hipMemcpyAsync"] <= 3, "{calls:?}");
    assert!(!calls.contains_key("hipMemsetAsync"), "{calls:?}");
    gpu.sim().assert_no_fault();
}

/// Detects any wrong kernel: each question has only one right answer. Two devices, one of each wave size, get half of
/// the questions each; ten sequences are decoded at a time.
#[test]
fn a_tenth_of_the_questions_is_answered_right() {
    let model = Model::demo().unwrap();
    let questions = some_questions(40);
    std::thread::scope(|scope| {
        for (wave, questions) in [32, 64].into_iter().zip(questions.chunks(20)) {
            let model = &model;
            scope.spawn(move || {
                let gpu = Gpu::simulated(Config { checks: Checks::Fast, ..config(wave) });
                let options = SessionOptions { n_sequences: 10, ..options(gpu.choice()) };
                let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
                let started = std::time::Instant::now();
                Answerer::new(model, &options, &extras).check("built in", questions);
                println!("waves of {wave}: {:.1} s", started.elapsed().as_secs_f64());
                gpu.sim().assert_no_fault();
            });
        }
    });
}

/// The program as a user runs it: the simulated device is used only because it is named.
#[test]
fn the_program_answers_on_a_gpu() {
    let run = |device: &str, platform: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rfgraph"));
        command.args(["run", "-p", QUESTION, "--temp", "0", "--device", device]);
        command.env("RFGRAPH_HIP_PLATFORM", platform).env("RFGRAPH_CACHE_DIR", gpu::kernel_folder());
        command.output().unwrap()
    };
    let output = run("hip", "sim");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "632\n", "{error}");
    // The demo model is small: a GPU would answer more slowly.
    let output = run("auto", "sim");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout == b"632\n" && !error.contains("computing on"), "{error}");
    let output = run("hip:7", "sim");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("hip:7"));
    let output = run("cpu", "sim");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "632\n");
}

fn logits_of(session: &mut Session, tokens: &[u32]) -> Vec<Vec<f32>> {
    let id = session.open().unwrap();
    let mut rows = Vec::new();
    session.all_logits(id, tokens, |row| rows.push(row.to_vec())).unwrap();
    session.close(id).unwrap();
    rows
}

/// Mean KL divergence of the rows' distributions from the CPU's, in nats.
fn mean_kl(cpu: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
    distance(found, &cpu.concat()).mean_kl
}

fn fixture(name: &str) -> Model {
    Model::open(inside(name)).unwrap()
}

/// Both devices round activations to eight bits in quantized products, each with its own blocks, so that logits differ
/// by those roundings: as much as the CPU differs from a reference in double precision. With F16 weights only the
/// rounding of the products' operands differs.
#[test]
fn logits_agree_with_the_cpu() {
    let tokens: Vec<u32> = (0..40).map(|i| (i * i * 17 + i * 29) % 250 + 3).collect();
    let models = [
        ("demo", Model::demo().unwrap(), 1e-3),
        ("llama F16", fixture("llama/llama-F16.gguf"), 1e-5),
        ("llama Q4_K_M", fixture("llama/llama-Q4_K_M.gguf"), 2e-2),
    ];
    let gpus = gpus(Checks::Fast);
    for (name, model, most) in &models {
        let cpu = logits_of(&mut Session::new(model, &options(DeviceChoice::Cpu)).unwrap(), &tokens);
        for gpu in &gpus {
            let mut session = on(gpu, model);
            // The prompt as a whole, then the same tokens in small batches.
            let found = until_steady(&mut session, |session| logits_of(session, &tokens));
            let kl = mean_kl(&cpu, &found);
            println!("{name} on {}: {kl:.2e}", gpu.context.target().arch);
            assert!(kl <= *most, "{name} on {}: {kl:e}", gpu.context.target().arch);
            if let Some(sim) = &gpu.sim {
                sim.assert_no_fault();
            }
        }
    }
}

fn answer(session: &mut Session, model: &Model, params: &SamplerParams) -> Vec<u32> {
    let tokenizer = model.tokenizer().unwrap();
    let id = session.open().unwrap();
    let sampler = Sampler::new(params.clone(), tokenizer.n_vocab()).unwrap();
    let limits = GenerateOptions { max_tokens: Some(8), ..GenerateOptions::default() };
    let mut generation = Generation::new(&tokenizer, sampler, limits).unwrap();
    drive(session, id, &prompt(model), &mut generation);
    let tokens = generation.tokens().to_vec();
    session.close(id).unwrap();
    tokens
}

/// The device chooses the same token as the sampler does from all logits.
#[test]
fn the_same_seed_gives_the_same_text() {
    let model = Model::demo().unwrap();
    let gpu = Gpu::simulated(Config { checks: Checks::Fast, ..config(32) });
    let mut session = on(&gpu, &model);
    for temperature in [0.0, 1.5] {
        for (top_k, needs) in [(1, Needs::Top(1)), (40, Needs::Top(40)), (0, Needs::Logits)] {
            let params = SamplerParams {
                temperature: Temperature::fixed(temperature),
                top_k: TopK { k: top_k },
                seed: 7,
                ..SamplerParams::default()
            };
            // A penalty without effect, which still needs all logits.
            let penalties = Penalties { presence: f32::MIN_POSITIVE, ..Penalties::default() };
            let all = SamplerParams { penalties, ..params.clone() };
            let sampler = |params: &SamplerParams| Sampler::new(params.clone(), 1000).unwrap().needs();
            assert_eq!(sampler(&params), if temperature == 0.0 { Needs::Largest } else { needs });
            assert_eq!(sampler(&all), Needs::Logits);
            assert_eq!(
                answer(&mut session, &model, &params),
                answer(&mut session, &model, &all),
                "{params:?}"
            );
        }
    }
    gpu.sim().assert_no_fault();
}

/// Any number of layers on the GPU and the others on the CPU: nearly the same logits, one fence on each device.
#[test]
fn layers_are_split_between_both_devices() {
    let model = fixture("llama/llama-F16.gguf");
    let n_layer = model.architecture().shape().n_layer;
    let tokens: Vec<u32> = (0..20).map(|i| (i * 37) % 250 + 3).collect();
    let cpu = logits_of(&mut Session::new(&model, &options(DeviceChoice::Cpu)).unwrap(), &tokens);
    let gpu = Gpu::simulated(config(32));
    for layers in 0..=n_layer + 1 {
        let options = SessionOptions { gpu_layers: Some(layers), ..options(gpu.choice()) };
        let mut session = session(&model, &options, gpu::options()).unwrap();
        assert_eq!(session.executors().count(), if (1..n_layer).contains(&layers) { 2 } else { 1 });
        assert_eq!(session.hip().is_some(), layers > 0);
        let kl = mean_kl(&cpu, &logits_of(&mut session, &tokens));
        assert!(kl <= 1e-5, "{layers} layers: {kl:e}");
    }
    gpu.sim().assert_no_fault();
    gpu.sim().assert_no_leak();
}

/// Without a requested number of layers, as many as fit are on the GPU, down to none.
#[test]
fn as_many_layers_as_fit_are_on_the_gpu() {
    let model = Model::demo().unwrap();
    let n_layer = model.architecture().shape().n_layer;
    let mut before = 0;
    for mib in [16, 142, 146, 150, 400] {
        let gpu = Gpu::simulated(Config { memory: mib << 20, checks: Checks::Fast, ..config(32) });
        let mut session = on(&gpu, &model);
        let portions = session.hip().is_some();
        let on_gpu = match (session.executors().count(), portions) {
            (_, false) => 0,
            (1, true) => n_layer,
            _ => 1,
        };
        println!("{mib} MiB: {on_gpu} (of {n_layer}, 1 meaning some)");
        assert!(on_gpu >= before, "{mib} MiB");
        before = on_gpu;
        assert_eq!(logits_of(&mut session, &[300, 400]).len(), 2);
    }
    assert_eq!(before, n_layer);
}
