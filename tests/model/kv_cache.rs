//! The KV cache in every dtype: answers, refusals, and values that are a part of the keys.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::exec::{Budget, CpuExecutor, Executor, WeightMap};
use rfgraph::graph::{Graph, Tensor};
use rfgraph::model::{CacheTypes, Model, ModelError, Session, SessionExtras, SessionOptions};
use rfgraph::ops::{Attention, Paging};
use rfgraph::plan::compile;
use rfgraph::tensor::DType;

use crate::support::demo::{Answerer, some_questions};
use crate::support::gpu::{self, Gpu, config};
use crate::support::tiny_llama::tiny_llama;

fn options(k: DType, v: DType) -> SessionOptions {
    let threads = Some(NonZeroUsize::MIN);
    SessionOptions { n_ctx: 512, threads, cache_types: CacheTypes { k, v }, ..SessionOptions::default() }
}

/// Quantized caches keep the demo model's keys and values precise enough for the right answers.
#[test]
fn the_demo_model_answers_with_caches_in_blocks() {
    let model = Model::demo().unwrap();
    for (k, v) in [(DType::Q8_0, DType::Q8_0), (DType::Q4_0, DType::Q4_0), (DType::BF16, DType::Q8_0)] {
        let mut answerer = Answerer::new(&model, &options(k, v), &SessionExtras::default());
        answerer.check(&format!("{k} keys and {v} values"), &some_questions(40));
    }
}

#[test]
fn the_demo_model_answers_with_caches_in_blocks_on_a_gpu() {
    let model = Model::demo().unwrap();
    let sim = Gpu::simulated(config(32));
    for gpu in [sim].into_iter().chain(Gpu::real()) {
        let options = SessionOptions {
            n_ctx: 128,
            ubatch: Some(64),
            device: gpu.choice(),
            ..options(DType::Q8_0, DType::Q4_0)
        };
        let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
        let n = if gpu.sim.is_some() { 2 } else { 40 };
        Answerer::new(&model, &options, &extras).check(&gpu.context.target().arch, &some_questions(n));
    }
}

#[test]
fn heads_that_are_not_whole_blocks_are_refused() {
    // The model's heads have 8 elements.
    let model = tiny_llama(1);
    for (k, v, name) in [(DType::Q8_0, DType::F16, "cache_k.0"), (DType::F16, DType::Q4_0, "cache_v.0")] {
        let error = Session::new(&model, &options(k, v)).unwrap_err();
        assert!(matches!(error, ModelError::Graph(_)), "{error:?}");
        let message = error.to_string();
        let dtype = if k.is_plain() { v } else { k };
        for part in [name, "8 elements", dtype.name(), "cache type"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

const N_SLOTS: usize = 64;
const HEAD_DIM: usize = 96;
const HEAD_DIM_V: usize = 64;
const N_HEAD: usize = 16;

/// Latent attention of a prompt of `n_tokens` tokens and of one more, with values in the cache of the keys or in their
/// own.
fn latent(executor: &mut dyn Executor, dtype: DType, n_tokens: usize, in_keys: bool) -> Vec<u8> {
    let graph = Graph::new();
    let (q, k, attention) = inputs(&graph, n_tokens);
    let slots = graph.input("slots", DType::I32, [n_tokens]);
    let name = |part: &str| format!("{part} {dtype} {n_tokens} {in_keys}");
    let keys = graph.state(name("k"), dtype, [HEAD_DIM, 1, N_SLOTS]).kv_write(k, slots);
    let values = match in_keys {
        true => keys.slice(0, 0, HEAD_DIM_V),
        false => {
            let own = graph.state(name("v"), dtype, [HEAD_DIM_V, 1, N_SLOTS]);
            own.kv_write(k.slice(0, 0, HEAD_DIM_V), slots)
        }
    };
    graph.output("out", attention(q, keys, values));
    drop(attention);
    let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
    let numbers: Vec<usize> =
        ["q", "k", "positions", "sequences", "table", "slots"].map(|name| plan.input(name).unwrap().0).into();
    let id = executor.load(plan).unwrap();
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
    let (q, k) = (wave(HEAD_DIM * N_HEAD * n_tokens, 0.37), wave(HEAD_DIM * n_tokens, 0.61));
    let positions: Vec<i32> = (0..n_tokens as i32).collect();
    // The sequence starts with the second block of the cache.
    let slots: Vec<i32> = positions.iter().map(|p| (p + N_SLOTS as i32 / 2) % N_SLOTS as i32).collect();
    let ids = [&positions, &vec![0; n_tokens], &vec![1, 0], &slots];
    for (number, floats) in numbers.iter().zip([&q, &k]) {
        executor.write(id, *number, bytemuck::cast_slice(floats)).unwrap();
    }
    for (number, ids) in numbers[2..].iter().zip(ids) {
        executor.write(id, *number, bytemuck::cast_slice(ids)).unwrap();
    }
    executor.run(id).unwrap().wait().unwrap();
    executor.output(id, 0).unwrap().to_vec()
}

type Attend<'g> = Box<dyn Fn(Tensor<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g> + 'g>;

/// Queries, keys, and attention over their caches.
fn inputs(graph: &Graph, n_tokens: usize) -> (Tensor<'_>, Tensor<'_>, Attend<'_>) {
    let q = graph.input("q", DType::F32, [HEAD_DIM, N_HEAD, n_tokens]);
    let k = graph.input("k", DType::F32, [HEAD_DIM, 1, n_tokens]);
    let paging = Paging {
        positions: graph.input("positions", DType::I32, [n_tokens]),
        sequences: graph.input("sequences", DType::I32, [n_tokens]),
        block_table: graph.input("table", DType::I32, [2, 1]),
    };
    let op =
        Attention { scale: 0.125, window: Some(30), softcap: None, block_size: N_SLOTS / 2, n_single: 0 };
    (q, k, Box::new(move |q, k, v| q.attention(k, v, paging, None, &op)))
}

/// Both variants read the same numbers, so the bits are equal: on every device, for few tokens and for many.
#[test]
fn values_may_be_a_part_of_the_keys() {
    let cpu = || {
        let threads = NonZeroUsize::new(2).unwrap();
        CpuExecutor::new(threads, Arc::new(WeightMap::new()), Budget::host(Budget::FRACTION)).unwrap()
    };
    let gpus: Vec<Gpu> = [Gpu::simulated(config(32))].into_iter().chain(Gpu::real()).collect();
    let on_gpus =
        gpus.iter().map(|gpu| Box::new(gpu.executor(Arc::new(WeightMap::new()))) as Box<dyn Executor>);
    for mut executor in std::iter::once(Box::new(cpu()) as Box<dyn Executor>).chain(on_gpus) {
        for dtype in CacheTypes::ALL {
            for n_tokens in [1, 40] {
                let shared = latent(&mut *executor, dtype, n_tokens, true);
                let apart = latent(&mut *executor, dtype, n_tokens, false);
                assert!(shared == apart, "{dtype}, {n_tokens} tokens: the bits differ");
                let values: &[f32] = bytemuck::cast_slice(&shared);
                assert!(values.iter().all(|x| x.is_finite()) && values.iter().any(|x| x.abs() > 0.1));
            }
        }
    }
}
