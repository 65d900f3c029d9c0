//! A tiny model with both kinds of state, and the architecture and operator that a user would write for it: every layer
//! has a decaying sum of its inputs (recurrent), all but the first also attention (paged). Layer 1 has a cache of its
//! own, layer 2 reads the cache of layer 1, and layer 3 has a cache with other heads. A row has two positions.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Arg, Lower, LowerError, Variant, Which};
use rfgraph::gguf::{Gguf, GgufWriter};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, FurtherOutput, FurtherOutputs, Memory, Operator, ShapeError, Tensor};
use rfgraph::model::{
    Architecture, ArchitectureRow, Architectures, Head, Keys, Model, ModelBuilder, ModelError, ModelShape,
    SessionExtras,
};
use rfgraph::ops::{Rope, RopeKind};
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

pub const N_EMBD: usize = 32;
pub const N_VOCAB: usize = 96;
const N_FF: usize = 64;
pub const N_LAYER: usize = 4;
/// Elements of a head, query heads and heads of the cache of layers 1 and 2, and of layer 3.
const HEADS: [usize; 3] = [8, 4, 4];
const LAST_HEADS: [usize; 3] = [16, 2, 1];
/// Heads of the decaying sum.
const N_DECAY: usize = 4;

/// `h ← keep · h + x`, row after row of each run: `x` `F32[n, n_head, n_rows]`, a state `F32[n, n_head, n_slots]`, and
/// runs `I32[4, n_runs]` from [`ModelBuilder::runs`]. Outputs: `h` after each row, 0 for padding; the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decay {
    /// A power of two, so that the product is exact, with and without a fused multiply-add.
    pub keep: f32,
}

const KERNEL: &str = r#"
#include "platform.h"

// A block computes a head, run after run.
KERNEL_OF(64, decay)(const float* x, const int* runs, float* y, float* state, int n, int n_head, int n_rows,
                     int n_runs, int n_slots, float keep) {
    int head = block_index_x();
    for (int i = thread_index(); i < n; i += 64) {
        for (int row = 0; row < n_rows; ++row) y[i + n * (head + (i64)n_head * row)] = 0.0f;
        for (int run = 0; run < n_runs; ++run) {
            int first = runs[4 * run], count = runs[4 * run + 1];
            int source = runs[4 * run + 2], target = runs[4 * run + 3];
            if (count <= 0 || target < 0 || target >= n_slots || source >= n_slots) continue;
            float h = source < 0 ? 0.0f : state[i + n * (head + (i64)n_head * source)];
            for (int row = first; row < first + count && row < n_rows; ++row) {
                i64 at = i + n * (head + (i64)n_head * row);
                h = keep * h + x[at];
                y[at] = h;
            }
            state[i + n * (head + (i64)n_head * target)] = h;
        }
    }
}
"#;

/// A run's first row, number of rows, source slot and target slot, if the run is not padding.
fn slots_of(run: &[i32]) -> Option<(usize, usize, Option<usize>, usize)> {
    let [first, count, source, target] = *run else { return None };
    let at = |n: i32| usize::try_from(n).ok();
    if count <= 0 { None } else { Some((at(first)?, at(count)?, at(source), at(target)?)) }
}

impl Operator for Decay {
    const NAME: &'static str = "decay";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, state, runs] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        let same = (0..2).all(|dim| x.shape.dim(dim) == state.shape.dim(dim));
        if !same
            || [x.dtype, state.dtype, runs.dtype] != [DType::F32, DType::F32, DType::I32]
            || runs.shape.dim(0) != 4
        {
            let rule =
                "x, state and runs must be F32[n, n_head, n_rows], F32[n, n_head, n_slots], I32[4, n_runs]";
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(Desc::contiguous(DType::F32, x.shape)?)
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        Ok([FurtherOutput { desc: inputs[1], memory: Memory::WritesState(1) }].into_iter().collect())
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (x, runs) = (step.input(0), step.input(2).all::<i32>());
        let (n, n_rows) = (x.dim(0), x.dim(2));
        step.for_parts([1, 1], 1, |heads, [mut y, mut state]| {
            let mut h = vec![0f32; n];
            for head in heads {
                for row in 0..n_rows {
                    y.row::<f32>(head, row, 0)?.fill(0.0);
                }
                for (first, count, source, target) in runs.chunks_exact(4).filter_map(slots_of) {
                    match source {
                        Some(source) => h.copy_from_slice(state.row::<f32>(head, source, 0)?),
                        None => h.fill(0.0),
                    }
                    for row in first..first + count {
                        let y = y.row::<f32>(head, row, 0)?;
                        x.load(0, (head, row, 0), y)?;
                        for (y, h) in y.iter_mut().zip(&mut h) {
                            *h = self.keep * *h + *y;
                            *y = *h;
                        }
                    }
                    state.row::<f32>(head, target, 0)?.copy_from_slice(&h);
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n, n_head, n_rows, _] = lower.output().shape.ne();
        let n_slots = lower.output_at(1).map_or(0, |state| state.shape.dim(2));
        let n_runs = lower.inputs()[2].shape.dim(1);
        if !lower.inputs().iter().all(Desc::is_contiguous) {
            return Err(lower.unsupported("the inputs must lie without gaps"));
        }
        let sizes =
            [("n", n), ("n_head", n_head), ("n_rows", n_rows), ("n_runs", n_runs), ("n_slots", n_slots)];
        let sizes = sizes.map(|(name, n)| (name, Arg::I32(n as i32)));
        let mut args = vec![
            ("x", Arg::Address(Which::Input(0), 0)),
            ("runs", Arg::Address(Which::Input(2), 0)),
            ("y", Arg::Address(Which::Output, 0)),
            ("state", Arg::Address(Which::OutputAt(1), 0)),
        ];
        args.extend(sizes);
        args.push(("keep", Arg::F32(self.keep)));
        lower.launch(Variant::own("decay", KERNEL, "decay"), [n_head, 1, 1], 64, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 2 * output.shape.elements() as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n, n_slots, count) = (draw.number(1..=70), draw.number(2..=4), draw.number(1..=5));
        let op = Decay { keep: 0.5 };
        let x = draw.values(n * count, 2.0);
        let before = draw.values(n * n_slots, 2.0);
        let (mut y, mut state) = (Vec::new(), before.iter().copied().map(f64::from).collect::<Vec<_>>());
        for row in 0..count {
            for i in 0..n {
                let h = if row == 0 { f64::from(before[i]) } else { y[(row - 1) * n + i] };
                y.push(0.5 * h + f64::from(x[row * n + i]));
            }
        }
        state[n..2 * n].copy_from_slice(&y[(count - 1) * n..]);
        let inputs = vec![
            CaseInput::f32([n, 1, count], &x),
            CaseInput::f32([n, 1, n_slots], &before).state(),
            CaseInput::i32([4, 1], &[0, count as i32, 0, 1]),
        ];
        // Five roundings of numbers below 8.
        let tolerance = vec![5.0 * 8.0 * 2f64.powi(-24)];
        Case::with_tolerances(op, inputs, y, tolerance.clone()).and(state, tolerance)
    }
}

/// The architecture `tiny-hybrid`.
#[derive(Debug)]
struct TinyHybrid {
    n_ctx_train: usize,
    second: Second,
}

/// The cache of layer 2.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u32)]
pub enum Second {
    /// The cache of layer 1.
    Shared,
    /// A cache of its own, with the keys and values of layer 1: the same answers from more memory.
    Copied,
    /// That of layer 3, which is computed later: an error.
    FromLater,
}

/// Keys and values of a layer.
type KeysValues<'g> = (Tensor<'g>, Tensor<'g>);

impl TinyHybrid {
    fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let second = match keys.opt_count("second", 0..=2)? {
            None | Some(0) => Second::Shared,
            Some(1) => Second::Copied,
            _ => Second::FromLater,
        };
        Ok(Box::new(TinyHybrid { n_ctx_train: keys.count("context_length", 1..=1 << 20)?, second }))
    }

    /// Rotates each half of a head's elements by a position of its own (M-RoPE).
    fn rope<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        let half = x.dim(0) / 2;
        let rope = Rope::new(RopeKind::Neox, half, 10_000.0);
        let part = |i: usize| x.slice(0, i * half, half).rope(b.position(i), &rope);
        part(0).concat(&[part(1)], 0)
    }

    /// Attention of layer `il`; `first` are the keys and values of layer 1.
    fn attention<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        il: usize,
        h: Tensor<'g>,
        first: &mut Option<KeysValues<'g>>,
    ) -> Tensor<'g> {
        let name = |part: &str| format!("blk.{il}.{part}");
        let [head_dim, n_head, n_head_kv] = if il == 3 { LAST_HEADS } else { HEADS };
        let heads =
            |part: &str, n: usize| b.linear(h, &name(part), n * head_dim).reshape([head_dim, n, h.dim(1)]);
        let attention = b.causal(1.0 / (head_dim as f32).sqrt());
        let q = self.rope(b, heads("attn_q", n_head));
        match (il, self.second, *first) {
            (2, Second::Shared, _) => b.attend_shared(il, 1, (q, None), attention),
            (2, Second::FromLater, _) => b.attend_shared(il, 3, (q, None), attention),
            (2, Second::Copied, Some((k, v))) => b.attend(il, (q, k, v), attention),
            _ => {
                let (k, v) = (self.rope(b, heads("attn_k", n_head_kv)), heads("attn_v", n_head_kv));
                first.get_or_insert((k, v));
                b.attend(il, (q, k, v), attention)
            }
        }
    }

    fn layer<'g>(
        &self,
        b: &ModelBuilder<'g, '_>,
        il: usize,
        x: Tensor<'g>,
        first: &mut Option<KeysValues<'g>>,
    ) -> Tensor<'g> {
        let name = |part: &str| format!("blk.{il}.{part}");
        let n_rows = x.dim(1);
        let h = b.rms_norm(x, &name("attn_norm"), 1e-5);
        let width = N_EMBD / N_DECAY;
        let state = b.recurrent_state(&format!("decay.{il}"), DType::F32, &[width, N_DECAY]);
        let heads = h.reshape([width, N_DECAY, n_rows]);
        let decayed = b.graph().apply(Decay { keep: 0.5 }, &[heads, state, b.runs()]);
        let mut x = b.linear(decayed.reshape([N_EMBD, n_rows]), &name("decay_output"), N_EMBD).add(x);
        if il > 0 {
            let h = b.rms_norm(x, &name("attn_norm"), 1e-5);
            let attended = self.attention(b, il, h, first);
            x = b.linear(attended, &name("attn_output"), N_EMBD).add(x);
        }
        let x = if il + 1 == N_LAYER { b.wanted_rows(x) } else { x };
        let h = b.rms_norm(x, &name("ffn_norm"), 1e-5);
        let (gate, up) = (b.linear(h, &name("ffn_gate"), N_FF), b.linear(h, &name("ffn_up"), N_FF));
        b.linear(gate.silu().mul(up), &name("ffn_down"), N_EMBD).add(x)
    }
}

impl Architecture for TinyHybrid {
    fn shape(&self) -> ModelShape {
        ModelShape {
            n_vocab: N_VOCAB,
            n_ctx_train: self.n_ctx_train,
            n_positions: None,
            n_embd: N_EMBD,
            n_layer: N_LAYER,
            n_pos: 2,
        }
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings = || b.weight("token_embd.weight", [N_EMBD, N_VOCAB]).get_rows(b.batch().tokens);
        let mut first = None;
        let x = b.embed(N_EMBD, embeddings);
        let x = b.layers(N_LAYER).fold(x, |x, il| self.layer(b, il, x, &mut first));
        b.head(x, |x| b.rms_norm(x, "output_norm", 1e-5), |x| b.linear(x, "token_embd", N_VOCAB))
    }
}

/// Extras with the operator that the model needs.
pub fn extras(extras: SessionExtras) -> SessionExtras {
    SessionExtras { operators: vec![OperatorRow::of::<Decay>()], ..extras }
}

/// A random model of the architecture.
pub fn tiny_hybrid() -> Model {
    tiny_hybrid_with(Second::Shared)
}

/// The same model with another cache of layer 2.
pub fn tiny_hybrid_with(second: Second) -> Model {
    let mut file = GgufWriter::new();
    file.set("tiny-hybrid.second", second as u32).unwrap();
    file.set("general.architecture", "tiny-hybrid").unwrap();
    file.set("tiny-hybrid.context_length", 1024u32).unwrap();
    let mut seed = 1u32;
    let mut add = |name: String, shape: &[usize]| {
        let (center, spread) = match shape {
            [_] => (1.0, 0.1),
            _ => (0.0, (3.0 / shape[0] as f32).sqrt()),
        };
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| center + spread * noise()).collect();
        let shape = rfgraph::tensor::Shape::new(shape).unwrap();
        file.tensor(&name, DType::F32, shape, bytemuck::cast_slice(&values).to_vec()).unwrap();
    };
    add("token_embd.weight".into(), &[N_EMBD, N_VOCAB]);
    add("output_norm.weight".into(), &[N_EMBD]);
    for il in 0..N_LAYER {
        let mut layer = |part: &str, shape: &[usize]| add(format!("blk.{il}.{part}.weight"), shape);
        layer("attn_norm", &[N_EMBD]);
        layer("decay_output", &[N_EMBD, N_EMBD]);
        if il > 0 {
            ["attn_q", "attn_output"].iter().for_each(|part| layer(part, &[N_EMBD, N_EMBD]));
        }
        let n_kv = match il {
            1 => HEADS[0] * HEADS[2],
            3 => LAST_HEADS[0] * LAST_HEADS[2],
            _ => 0,
        };
        if n_kv > 0 {
            ["attn_k", "attn_v"].iter().for_each(|part| layer(part, &[N_EMBD, n_kv]));
        }
        layer("ffn_norm", &[N_EMBD]);
        layer("ffn_gate", &[N_EMBD, N_FF]);
        layer("ffn_up", &[N_EMBD, N_FF]);
        layer("ffn_down", &[N_FF, N_EMBD]);
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes).unwrap();
    let row = ArchitectureRow { name: "tiny-hybrid", models: "tests", read: TinyHybrid::read };
    Model::from_gguf_with(Gguf::from_bytes(bytes).unwrap(), &Architectures::built_in().with(row)).unwrap()
}
