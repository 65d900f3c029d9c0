//! Tests on the real device of the platform that `RFGRAPH_HIP_PLATFORM` names (`amd` or `nvidia`); without the variable
//! they are skipped. They check answers, logits near the reference, equal bits in every run, and memory leaks.
//!
//! `RFGRAPH_HIP_PLATFORM=sim` runs these tests on the simulated device, with a fiftieth of the repetitions.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use rfgraph::device::PlatformKind;
use rfgraph::hip::Context;
use rfgraph::hip::platform::sim;
use rfgraph::model::{Model, Session, SessionExtras, SessionOptions};

use crate::support::demo::{Answerer, FORMS, some_questions};
use crate::support::gpu::{self, Gpu};
use crate::support::inside::inside;
use crate::support::outside::outside;
use crate::support::product;
use crate::support::reference::{LLAMA_F16_KL, LLAMA_Q4_K_M_KL, demo_distance, distance, ids, npy};
use crate::support::sessions::largest;
use crate::support::skipped::skipped;

/// The device, used by one test at a time.
struct Device {
    gpu: Gpu,
    _alone: MutexGuard<'static, ()>,
}

impl Device {
    fn named() -> Option<Device> {
        static ALONE: Mutex<()> = Mutex::new(());
        // A failed test leaves no state that could fail another one.
        let alone = ALONE.lock().unwrap_or_else(|failed| failed.into_inner());
        let Some(gpu) = open() else {
            skipped("RFGRAPH_HIP_PLATFORM names no real device");
            return None;
        };
        println!("{}: {}", gpu.context.name(), gpu.context.versions());
        Some(Device { gpu, _alone: alone })
    }

    /// The number of repetitions: `n` on a real device.
    fn times(&self, n: usize) -> usize {
        if self.gpu.sim.is_some() { n / 50 } else { n }
    }
}

fn open() -> Option<Gpu> {
    if std::env::var("RFGRAPH_HIP_PLATFORM").is_ok_and(|name| name == "sim") {
        let context = Context::open(PlatformKind::Sim, 0).unwrap();
        return Some(Gpu { context, sim: sim::find(0), may_leak: false });
    }
    Gpu::real()
}

fn options(gpu: &Gpu) -> SessionOptions {
    SessionOptions { n_ctx: 512, device: gpu.choice(), ..SessionOptions::default() }
}

fn extras() -> SessionExtras {
    SessionExtras { hip: gpu::options(), ..SessionExtras::default() }
}

/// The built-in model, and its quantized files if they are available.
fn demos() -> impl Iterator<Item = (&'static str, Model)> {
    let form = |form| {
        let path = outside(&format!("demo/demo-{form}.gguf"))?;
        Some((form, Model::open(path).unwrap()))
    };
    std::iter::once(("built in", Model::demo().unwrap())).chain(FORMS.into_iter().filter_map(form))
}

/// Questions one at a time, with the token chosen on the device as in `rfgraph run`; and eight sequences in a batch.
#[test]
fn every_demo_file_answers_every_question() {
    let Some(device) = Device::named() else { return };
    let questions = some_questions(device.times(400));
    for (name, model) in demos() {
        for n_sequences in [1, 8] {
            let started = Instant::now();
            let options = SessionOptions { n_sequences, ..options(&device.gpu) };
            Answerer::new(&model, &options, &extras()).check(name, &questions);
            let (n, seconds) = (questions.len(), started.elapsed().as_secs_f64());
            println!("{name}, {n_sequences} at a time: {n} of {n} right, {seconds:.1} s");
        }
    }
}

/// The logits after each token of a prompt in chunks of `chunk` tokens; with 1 each token is decoded by itself.
fn logits_of(gpu: &Gpu, model: &Model, chunk: usize, tokens: &[u32]) -> Vec<Vec<f32>> {
    let options = SessionOptions { ubatch: Some(chunk), ..options(gpu) };
    logits_in(&mut Session::with(model, &options, &extras()).unwrap(), chunk, tokens)
}

fn logits_in(session: &mut Session, chunk: usize, tokens: &[u32]) -> Vec<Vec<f32>> {
    let id = session.open().unwrap();
    let mut rows = Vec::new();
    if chunk == 1 {
        rows.extend(tokens.iter().map(|&token| session.decode(&[(id, token)]).unwrap().row(0).to_vec()));
    } else {
        session.all_logits(id, tokens, |row| rows.push(row.to_vec())).unwrap();
    }
    session.close(id).unwrap();
    assert_eq!(rows.len(), tokens.len());
    rows
}

/// Chunk sizes that use different kernels: whole prompts, partly filled tiles, single tokens.
const CHUNKS: [usize; 3] = [512, 7, 1];

/// With F16 weights the operands of a prompt's products may be rounded to F16, a relative error of 5e-4 each; the KL
/// divergence is about the square of that. Quantized weights behave as on the CPU: activations are rounded to eight
/// bits.
#[test]
fn demo_logits_agree_with_the_reference() {
    let Some(device) = Device::named() else { return };
    let limits = [("built in", 1e-4), ("f16", 1e-6), ("Q8_0", 1e-4), ("Q4_K_M", 5e-4)];
    for (name, model) in demos() {
        let Some((_, most)) = limits.iter().find(|(limited, _)| *limited == name) else { continue };
        for chunk in CHUNKS {
            let found = demo_distance(|tokens| logits_of(&device.gpu, &model, chunk, tokens));
            println!("demo {name}, {chunk} at a time: {found:?}, at most {most:e}");
            assert!(found.mean_kl <= *most, "{name}, {chunk} at a time: {found:?}");
        }
    }
}

#[test]
fn random_llama_agrees_with_its_references() {
    let Some(device) = Device::named() else { return };
    let folder = inside("llama");
    let tokens = ids(&folder.join("ids.txt"));
    let files = [
        ("llama-F16.gguf", "logits.npy", LLAMA_F16_KL),
        ("llama-Q4_K_M.gguf", "llama-Q4_K_M.dequant_ref.npy", LLAMA_Q4_K_M_KL),
    ];
    for (file, reference, most) in files {
        let (model, reference) = (Model::open(folder.join(file)).unwrap(), npy(&folder.join(reference)));
        for chunk in CHUNKS {
            let found = distance(&logits_of(&device.gpu, &model, chunk, &tokens), &reference);
            println!("{file}, {chunk} at a time: {found:?}, at most {most:e}");
            assert!(found.mean_kl <= most, "{file}, {chunk} at a time: {found:?}");
        }
    }
}

/// Run step by step, recorded, replayed, and in another session.
#[test]
fn the_same_prompt_gives_the_same_bits() {
    let Some(device) = Device::named() else { return };
    let n_tokens = if device.gpu.sim.is_some() { 20 } else { 200 };
    let tokens: Vec<u32> = (0..n_tokens).map(|i| (i * i * 17 + i * 29) % 250 + 3).collect();
    for (name, model) in demos() {
        for chunk in CHUNKS {
            let wanted = logits_of(&device.gpu, &model, chunk, &tokens);
            let options = SessionOptions { ubatch: Some(chunk), ..options(&device.gpu) };
            let mut session = Session::with(&model, &options, &extras()).unwrap();
            for round in 0..3 {
                let found = logits_in(&mut session, chunk, &tokens);
                let differs = found.iter().zip(&wanted).position(|(a, b)| !same_bits(a, b));
                assert!(differs.is_none(), "{name}, {chunk} at a time, round {round}: token {differs:?}");
            }
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The smallest unit in which a device hands out memory. A driver may keep one unit for small allocations, and may or
/// may not count it. A session holds several units; a leak of 2 KiB per cycle adds up to one in 1,000 cycles.
const GRANULE: u64 = 2 << 20;

/// Opens, runs and closes a session `RFGRAPH_DEVICE_CYCLES` times. The first three cycles may leave what the driver
/// keeps for the process. No other process may use the device meanwhile.
#[test]
fn cycles_leave_nothing_behind() {
    let Some(device) = Device::named() else { return };
    let cycles = std::env::var("RFGRAPH_DEVICE_CYCLES").ok().map(|n| n.parse().unwrap());
    let cycles = cycles.unwrap_or(device.times(1000));
    assert!(cycles > 3, "{cycles} cycles show nothing");
    let model = Model::demo().unwrap();
    let (started, mut settled) = (Instant::now(), 0);
    for cycle in 1..=cycles {
        let gpu = open().unwrap();
        let mut session = Session::with(&model, &options(&gpu), &extras()).unwrap();
        let id = session.open().unwrap();
        session.prefill(id, &[300, 301, 302, 303, 304]).unwrap();
        for token in 305..309 {
            largest(&mut session, id, token);
        }
        let (within, _) = gpu.context.memory_info().unwrap();
        drop(session);
        let (free, _) = gpu.context.memory_info().unwrap();
        assert!(free > within, "cycle {cycle}: a session takes device memory, and gives it back");
        if cycle == 3 {
            settled = free;
        }
        if cycle > 3 {
            // The simulated device must be exact to the byte.
            let slack = if gpu.sim.is_some() { 0 } else { GRANULE };
            assert!(free + slack >= settled, "cycle {cycle}: {} bytes are missing", settled - free);
        }
        if cycle == cycles || cycle % 100 == 0 {
            let seconds = started.elapsed().as_secs_f64();
            println!("cycle {cycle}: {free} bytes free, {settled} after the third, {seconds:.1} s");
        }
    }
}

/// A product of the BLAS library and a copy of its result, both so large that one would still be running when the other
/// starts.
#[test]
fn a_product_and_a_copy_keep_their_order() {
    let Some(device) = Device::named() else { return };
    let sizes = if device.gpu.sim.is_some() { [16, 8] } else { [1024, 256] };
    product::a_product_and_a_copy_keep_their_order(&device.gpu, sizes, device.times(10_000));
}
