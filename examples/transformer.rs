//! A one-block transformer written out by hand: it computes tokens one by one, then all at once, and the logits must
//! agree.
//!
//! `cargo run --release --example transformer`

use std::error::Error;
use std::sync::Arc;

use rfgraph::ops::{Attention, Paging, Rope, RopeKind};
use rfgraph::{
    Budget, CpuExecutor, DType, Desc, ExecError, Executor, Graph, GraphDef, GraphError, PlanId, Tensor,
    WeightMap, compile, physical_cores,
};

const N_VOCAB: usize = 50;
const N_EMBD: usize = 32;
const N_HEAD: usize = 4;
/// Heads of keys and values; each serves two heads of queries.
const N_HEAD_KV: usize = 2;
const HEAD_DIM: usize = N_EMBD / N_HEAD;
const N_FF: usize = 64;
/// The cache is divided into blocks of this many tokens, and the sequence owns some of them.
const BLOCK_SIZE: usize = 4;
const N_BLOCKS: usize = 3;
const N_SLOTS: usize = 8 * BLOCK_SIZE;

/// The blocks that the sequence owns, in order of its positions. Their places in the cache do not matter.
const BLOCK_TABLE: [i32; N_BLOCKS] = [5, 0, 3];
const TOKENS: [i32; 10] = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7];

/// Every weight and its shape, rows first.
const WEIGHTS: [(&str, [usize; 2]); 11] = [
    ("embeddings", [N_EMBD, N_VOCAB]),
    ("attention_norm", [N_EMBD, 1]),
    ("q", [N_EMBD, HEAD_DIM * N_HEAD]),
    ("k", [N_EMBD, HEAD_DIM * N_HEAD_KV]),
    ("v", [N_EMBD, HEAD_DIM * N_HEAD_KV]),
    ("attention_output", [HEAD_DIM * N_HEAD, N_EMBD]),
    ("ff_norm", [N_EMBD, 1]),
    ("gate", [N_EMBD, N_FF]),
    ("up", [N_EMBD, N_FF]),
    ("down", [N_FF, N_EMBD]),
    ("output_norm", [N_EMBD, 1]),
];

fn weight<'g>(graph: &'g Graph, name: &str) -> Tensor<'g> {
    match WEIGHTS.iter().find(|(other, _)| *other == name) {
        Some((_, [n, 1])) => graph.weight(name, DType::F32, [*n]),
        Some((_, shape)) => graph.weight(name, DType::F32, *shape),
        None => graph.refuse("weight", name, "is not in the table".into()),
    }
}

fn norm<'g>(x: Tensor<'g>, name: &str) -> Tensor<'g> {
    x.rms_norm(weight(x.graph(), name), 1e-5)
}

/// The graph for `n` new tokens. Positions and cache slots are inputs, never shapes: the graph for one token serves
/// every token.
fn transformer(n: usize) -> Result<GraphDef, GraphError> {
    let graph = Graph::new();
    let weight = |name| weight(&graph, name);
    let paging = Paging {
        positions: graph.input("positions", DType::I32, [n]),
        sequences: graph.input("sequences", DType::I32, [n]),
        block_table: graph.input("block_table", DType::I32, [N_BLOCKS, 1]),
    };
    let slots = graph.input("slots", DType::I32, [n]);
    let embeddings = weight("embeddings");
    let x = embeddings.get_rows(graph.input("tokens", DType::I32, [n]));

    // Attention. A state outlives the run; a write returns the state afterwards.
    let rope = Rope::new(RopeKind::Norm, HEAD_DIM, 10_000.0);
    let h = norm(x, "attention_norm");
    let heads = |name, n_head| h.linear(weight(name)).reshape([HEAD_DIM, n_head, n]);
    let q = heads("q", N_HEAD).rope(paging.positions, &rope);
    let k = heads("k", N_HEAD_KV).rope(paging.positions, &rope);
    let v = heads("v", N_HEAD_KV);
    let cache = |name| graph.state(name, DType::F32, [HEAD_DIM, N_HEAD_KV, N_SLOTS]);
    let (keys, values) = (cache("keys").kv_write(k, slots), cache("values").kv_write(v, slots));
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    let attention = Attention { scale, window: None, softcap: None, block_size: BLOCK_SIZE, n_single: 0 };
    let attended = q.attention(keys, values, paging, None, &attention).reshape([HEAD_DIM * N_HEAD, n]);
    let x = attended.linear(weight("attention_output")).add(x);

    // The feed-forward layer, then the logits with the embeddings as the output matrix.
    let h = norm(x, "ff_norm");
    let x = h.linear(weight("gate")).swiglu(h.linear(weight("up"))).linear(weight("down")).add(x);
    graph.output("logits", norm(x, "output_norm").linear(embeddings));
    graph.finish()
}

/// Appends tokens to the sequence and returns the logits after each.
fn append(
    executor: &mut CpuExecutor,
    id: PlanId,
    first: usize,
    tokens: &[i32],
) -> Result<Vec<f32>, ExecError> {
    let positions: Vec<i32> = (first..first + tokens.len()).map(|position| position as i32).collect();
    let slot = |&p: &i32| BLOCK_TABLE[p as usize / BLOCK_SIZE] * BLOCK_SIZE as i32 + p % BLOCK_SIZE as i32;
    let slots: Vec<i32> = positions.iter().map(slot).collect();
    executor.set(id, "tokens", tokens)?;
    executor.set(id, "positions", &positions)?;
    executor.set(id, "slots", &slots)?;
    executor.set(id, "sequences", &vec![0i32; tokens.len()])?;
    executor.set(id, "block_table", &BLOCK_TABLE)?;
    Ok(executor.run(id)?.wait()?.get("logits")?.to_vec())
}

/// Random weights: norms near one; matrices that keep the magnitude of their inputs.
fn weights() -> Result<WeightMap, Box<dyn Error>> {
    let mut noise = 1u32;
    let mut map = WeightMap::new();
    for (name, [n, rows]) in WEIGHTS {
        let (center, spread) = if rows == 1 { (1.0, 0.1) } else { (0.0, (3.0 / n as f32).sqrt()) };
        let mut next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            center + spread * ((noise >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let values: Vec<f32> = (0..n * rows).map(|_| next()).collect();
        let desc = if rows == 1 {
            Desc::contiguous(DType::F32, [n])?
        } else {
            Desc::contiguous(DType::F32, [n, rows])?
        };
        map.insert(name, desc, bytemuck::cast_slice(&values));
    }
    Ok(map)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut executor =
        CpuExecutor::new(physical_cores(), Arc::new(weights()?), Budget::host(Budget::FRACTION))?;
    let device = executor.device();
    let one = executor.load(compile(&transformer(1)?, &device)?)?;
    let all = executor.load(compile(&transformer(TOKENS.len())?, &device)?)?;

    let mut one_by_one = Vec::new();
    for (position, &token) in TOKENS.iter().enumerate() {
        one_by_one.extend(append(&mut executor, one, position, &[token])?);
    }
    let at_once = append(&mut executor, all, 0, &TOKENS)?;

    // Only the order of sums may differ: seven products in sequence, of at most N_FF terms, in each of two results; a
    // rounding is 2⁻²⁴ of the largest logit, and a norm may amplify it four times.
    let largest = at_once.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let tolerance = (2 * 7 * N_FF * 4) as f32 * 2f32.powi(-24) * largest;
    let differences = one_by_one.iter().zip(&at_once).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0f32, f32::max);
    for (row, token) in at_once.chunks(N_VOCAB).zip(TOKENS) {
        let best = (0..N_VOCAB).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        println!("after token {token:2}: token {best:2} is likeliest, its logit is {:.3}", row[best]);
    }
    println!("one by one and all at once differ by {worst:e}; {tolerance:e} may come of rounding");
    if one_by_one.len() != at_once.len() || largest == 0.0 || worst > tolerance {
        return Err("the two ways to feed the tokens give different logits".into());
    }
    Ok(())
}
