//! `delta_rule`: the gated delta rule, a linear attention whose state forgets and corrects itself.

mod case;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::reduce::optional_input;
use super::{rule, runs};
use crate::cpu::delta::{DeltaRow, delta_row};
use crate::cpu::{CpuStep, Isa, Part, StepError, View, math, vector};
pub use crate::device::KeyHeads;
use crate::device::constants::DELTA_RULE_THREADS;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, Draw};
use crate::graph::{Cost, FurtherOutput, FurtherOutputs, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// For each value head and each row of a sequence, with the state `S` of `d_k` by `d_v` elements:
///
/// `S ← exp(g) ∘ S`, `S ← S + k · beta · (v - Sᵀ k)ᵀ`, `y = Sᵀ q`.
///
/// Yang et al., "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", 2024, and "Gated Delta
/// Networks", 2024; a decay for each channel is that of Kimi Team, "Kimi Linear", 2025. Rows are computed one after
/// another, so that a row's bits do not depend on the cut of a text into chunks.
///
/// Inputs, all F32 but the runs: `q` and `k` `[d_k, n_key_heads, n_rows]`, `v` `[d_v, n_heads, n_rows]`, the logarithm of the
/// decay `g` `[1, n_heads, n_rows]`, or `[d_k, …]` for one decay a channel, `beta` `[1, n_heads, n_rows]`, a recurrent
/// state `[d_k, d_v, n_heads, n_slots]` and the [runs](crate::model::ModelBuilder::runs). With two more inputs, `dt`
/// (one for each head, or channel of a head) and `a` `[n_heads]`, `g` and `beta` are the numbers before their gates: the decay is
/// `a · softplus(g + dt)`, and the factor `σ(beta)`.
///
/// Outputs: `y` `[d_v, n_heads, n_rows]`, 0 for rows of no run; the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaRule {
    /// The key head of each value head.
    pub key_heads: KeyHeads,
    /// Divides each head of `q` and `k` by `√(sum of squares + l2_eps)`.
    pub l2_eps: Option<f32>,
    /// Factor of the queries.
    pub scale: f32,
}

/// The tensors of [`Tensor::delta_rule`] beside the query, as [`DeltaRule`] describes them.
#[derive(Clone, Copy, Debug)]
pub struct DeltaInputs<'g> {
    /// Keys.
    pub k: Tensor<'g>,
    /// Values.
    pub v: Tensor<'g>,
    /// The logarithm of the decay, or the number before its gate.
    pub g: Tensor<'g>,
    /// The factor of the correction, or the number before its gate.
    pub beta: Tensor<'g>,
    /// The recurrent state.
    pub state: Tensor<'g>,
    /// The runs of rows.
    pub runs: Tensor<'g>,
    /// `dt` and `a` of the gates.
    pub gates: Option<[Tensor<'g>; 2]>,
}

/// The widest key; published models have 64 to 128 elements.
const MOST_KEY: usize = 256;

/// Rows that are prepared together.
const ROWS: usize = 16;

/// Columns of the state that a worker computes for all prepared rows: with 128 elements each they fit the first cache.
const COLUMNS: usize = 16;

/// From this number of heads on, a worker computes whole heads.
const MANY_HEADS: usize = 16;

impl<'g> Tensor<'g> {
    /// The gated delta rule for the queries `self`; see [`DeltaRule`].
    #[track_caller]
    pub fn delta_rule(self, inputs: DeltaInputs<'g>, rule: DeltaRule) -> Tensor<'g> {
        let DeltaInputs { k, v, g, beta, state, runs, gates } = inputs;
        let mut all = vec![self, k, v, g, beta, state, runs];
        all.extend(gates.into_iter().flatten());
        let [y, _] = self.graph().apply_several(rule, &all);
        y
    }
}

impl KeyHeads {
    /// The key head of value head `head`.
    fn of(self, head: usize, n_key: usize, n_head: usize) -> usize {
        match self {
            KeyHeads::Tiled => head % n_key,
            KeyHeads::Grouped => head / (n_head / n_key),
        }
    }
}

/// The numbers of [`ROWS`] rows of one head, and a few columns of values.
struct Prepared<'s> {
    q: &'s mut [f32],
    k: &'s mut [f32],
    decay: &'s mut [f32],
    decayed_k: &'s mut [f32],
    beta: &'s mut [f32],
    v: &'s mut [f32],
}

impl<'s> Prepared<'s> {
    fn elements(d: usize) -> usize {
        4 * ROWS * d + ROWS + COLUMNS
    }

    fn of(scratch: &'s mut [f32], d: usize) -> Prepared<'s> {
        let mut rest = scratch;
        let mut take = |n: usize| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(n);
            rest = after;
            part
        };
        let [q, k, decay, decayed_k] = [(); 4].map(|()| take(ROWS * d));
        Prepared { q, k, decay, decayed_k, beta: take(ROWS), v: take(COLUMNS) }
    }
}

/// The inputs of a step.
struct Inputs<'s> {
    q: View<'s>,
    k: View<'s>,
    v: View<'s>,
    g: View<'s>,
    beta: View<'s>,
    gates: Option<[&'s [f32]; 2]>,
}

impl DeltaRule {
    /// Divides a head by its length.
    fn normalise(&self, isa: Isa, head: &mut [f32], scale: f32) {
        let factor = match self.l2_eps {
            Some(eps) => scale / (vector::sum_of(isa, head, |x| x * x) + eps).sqrt(),
            None => scale,
        };
        if factor != 1.0 {
            vector::map(isa, head, |x| x * factor);
        }
    }

    /// Loads row `row` of a head as row `i` of the prepared ones.
    fn prepare(
        &self,
        isa: Isa,
        inputs: &Inputs<'_>,
        (head, row, i): (usize, usize, usize),
        to: &mut Prepared<'_>,
    ) -> Result<(), StepError> {
        let (d, n_head) = (inputs.k.dim(0), inputs.v.dim(1));
        let key_head = self.key_heads.of(head, inputs.k.dim(1), n_head);
        let at = i * d..(i + 1) * d;
        let (q, k, decay) = (&mut to.q[at.clone()], &mut to.k[at.clone()], &mut to.decay[at.clone()]);
        inputs.q.load(0, (key_head, row, 0), q)?;
        inputs.k.load(0, (key_head, row, 0), k)?;
        self.normalise(isa, q, self.scale);
        self.normalise(isa, k, 1.0);
        let width = inputs.g.dim(0);
        let g = &mut decay[..width];
        inputs.g.load(0, (head, row, 0), g)?;
        let beta = &mut to.beta[i..=i];
        inputs.beta.load(0, (head, row, 0), beta)?;
        if let Some([dt, a]) = inputs.gates {
            let a = a[head];
            vector::zip(isa, g, &dt[head * width..][..width], |g, dt| a * math::softplus(g + dt));
            vector::map(isa, beta, math::sigmoid);
        }
        vector::map(isa, g, math::exp);
        if width == 1 {
            let one = decay[0];
            decay.fill(one);
        }
        let decayed = &mut to.decayed_k[at];
        decayed.copy_from_slice(k);
        vector::zip(isa, decayed, decay, |k, decay| k * decay);
        Ok(())
    }

    /// Computes some columns of a head for all rows of a run.
    fn columns(
        &self,
        isa: Isa,
        inputs: &Inputs<'_>,
        (run, head, columns): (&runs::Run, usize, Range<usize>),
        [y, state]: [&mut Part<'_>; 2],
        prepared: &mut Prepared<'_>,
    ) -> Result<(), StepError> {
        let d = inputs.k.dim(0);
        if run.source != Some(run.target) {
            let column = &mut prepared.decay[..d];
            for i in columns.clone() {
                match run.source {
                    Some(source) => column.copy_from_slice(state.row(i, head, source)?),
                    None => column.fill(0.0),
                }
                state.row(i, head, run.target)?.copy_from_slice(column);
            }
        }
        for start in run.rows.clone().step_by(ROWS) {
            let rows = start..run.rows.end.min(start + ROWS);
            for (i, row) in rows.clone().enumerate() {
                self.prepare(isa, inputs, (head, row, i), prepared)?;
            }
            for first in columns.clone().step_by(COLUMNS) {
                let few = first..columns.end.min(first + COLUMNS);
                let v = &mut prepared.v[..few.len()];
                let state = state.rows(few.clone(), head, run.target)?;
                for (i, row) in rows.clone().enumerate() {
                    inputs.v.load(first, (head, row, 0), v)?;
                    let at = i * d..(i + 1) * d;
                    let row_of = DeltaRow {
                        q: &prepared.q[at.clone()],
                        k: &prepared.k[at.clone()],
                        decay: &prepared.decay[at.clone()],
                        decayed_k: &prepared.decayed_k[at],
                        beta: prepared.beta[i],
                    };
                    let y = y.row::<f32>(head, row, 0)?;
                    delta_row(isa, state, &row_of, v, &mut y[first - columns.start..][..few.len()]);
                }
            }
        }
        Ok(())
    }
}

impl Operator for DeltaRule {
    const NAME: &'static str = "delta_rule";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        if ![7, 9].contains(&inputs.len()) {
            return Err(ShapeError::Arity { wanted: "7 or 9", found: inputs.len() });
        }
        let [q, k, v, g, beta, state, ..] = inputs else {
            return Err(ShapeError::Arity { wanted: "7 or 9", found: inputs.len() });
        };
        let [d, n_key, n_rows, _] = k.shape.ne();
        let [d_v, n_head, ..] = v.shape.ne();
        let width = g.shape.dim(0);
        let fits = q.shape.ne() == [d, n_key, n_rows, 1]
            && k.shape.ne() == q.shape.ne()
            && v.shape.ne() == [d_v, n_head, n_rows, 1]
            && g.shape.ne() == [width, n_head, n_rows, 1]
            && (width == 1 || width == d)
            && beta.shape.ne() == [1, n_head, n_rows, 1]
            && state.shape.ne() == [d, d_v, n_head, state.shape.dim(3)];
        if !fits || inputs[..6].iter().any(|input| input.dtype != DType::F32) || !state.is_contiguous() {
            let rule = "q, k, v, g, beta and state must be F32[d_k, n_key, n_rows] twice, F32[d_v, n_head, n_rows], \
                        F32[1 or d_k, n_head, n_rows], F32[1, n_head, n_rows], F32[d_k, d_v, n_head, n_slots]";
            return Err(ShapeError::rule(rule, inputs));
        }
        if d == 0 || n_key == 0 || !n_head.is_multiple_of(n_key) {
            let rule = format!(
                "{n_head} value heads of {n_key} key heads of {d} elements; each key head must have as many"
            );
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(&inputs[..5])?;
        runs::check(inputs, 6)?;
        if inputs.len() == 9 {
            rule::vector(inputs, 7, DType::F32, width * n_head, "dt")?;
            rule::vector(inputs, 8, DType::F32, n_head, "a")?;
        }
        Ok(Desc::contiguous(DType::F32, v.shape)?)
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let state = FurtherOutput { desc: inputs[5], memory: Memory::WritesState(5) };
        Ok(FurtherOutputs::from_slice(&[state]))
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(Prepared::elements(inputs.first().map_or(0, |q| q.shape.dim(0))), threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let isa = step.isa();
        let gates = (step.n_inputs() == 9).then(|| [step.input(7).all::<f32>(), step.input(8).all::<f32>()]);
        let [q, k, v, g, beta] = [0, 1, 2, 3, 4].map(|i| step.input(i));
        let inputs = Inputs { q, k, v, g, beta, gates };
        let [d_v, n_head, n_rows, _] = step.output().shape.ne();
        let all = runs::read(step.input(6).all::<i32>(), n_rows, step.output_at(1).shape.dim(3));
        let mut prepared = Prepared::of(step.take_scratch(), k.dim(0));
        let mut compute = |heads: Range<usize>,
                           columns: Range<usize>,
                           [mut y, mut state]: [Part<'_>; 2]|
         -> Result<(), StepError> {
            for head in heads {
                for row in 0..n_rows {
                    y.row::<f32>(head, row, 0)?.fill(0.0);
                }
                for run in all.clone() {
                    let of = (&run?, head, columns.clone());
                    self.columns(isa, &inputs, of, [&mut y, &mut state], &mut prepared)?;
                }
            }
            Ok(())
        };
        match n_head >= MANY_HEADS {
            true => step.for_parts([1, 2], 1, |heads, parts| compute(heads, 0..d_v, parts)),
            false => step.for_parts([0, 1], COLUMNS, |columns, parts| compute(0..n_head, columns, parts)),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [k, g, runs] = [1, 3, 6].map(|i| &lower.inputs()[i]);
        let [d_v, n_head, n_rows, _] = lower.output().shape.ne();
        let (d, n_runs) = (k.shape.dim(0), runs.shape.dim(1));
        let n_slots = lower.output_at(1).map_or(0, |state| state.shape.dim(3));
        if d_v * n_head * n_rows == 0 {
            return Ok(());
        }
        if d > MOST_KEY {
            return Err(
                lower.unsupported(format!("keys of {d} elements; at most {MOST_KEY} fit the registers"))
            );
        }
        // A column of the state is in the registers of a few lanes, up to 16 elements each.
        let lanes = if d <= 128 { 8 } else { 16 };
        let variant = Variant::new("delta_rule", "delta_rule")
            .define("LANES", lanes)
            .define("FOURS", d.div_ceil(4 * lanes))
            .define("BY_CHANNEL", usize::from(g.shape.dim(0) > 1))
            .define("KEY_HEADS", self.key_heads.number());
        let address = |i: u32| Arg::Address(Which::Input(i), 0);
        let layout = |i: u32| Arg::Layout(Which::Input(i));
        let args = [
            ("q", address(0)),
            ("q_at", layout(0)),
            ("k", address(1)),
            ("k_at", layout(1)),
            ("v", address(2)),
            ("v_at", layout(2)),
            ("g", address(3)),
            ("g_at", layout(3)),
            ("beta", address(4)),
            ("beta_at", layout(4)),
            ("dt", optional_input(lower, 7)),
            ("a", optional_input(lower, 8)),
            ("runs", address(6)),
            ("y", Arg::Address(Which::Output, 0)),
            ("state", Arg::Address(Which::OutputAt(1), 0)),
            ("n_runs", Arg::I32(n_runs as i32)),
            ("n_slots", Arg::I32(n_slots as i32)),
            ("l2_eps", Arg::F32(self.l2_eps.unwrap_or(-1.0))),
            ("scale", Arg::F32(self.scale)),
        ];
        let grid = [d_v.div_ceil(DELTA_RULE_THREADS / lanes), n_head, n_runs];
        lower.launch(variant, grid, DELTA_RULE_THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let (d, slot) = (inputs[1].shape.dim(0), inputs[5].shape.ne()[..3].iter().product::<usize>());
        let moved: usize = inputs[..5].iter().chain([output]).map(Desc::data_bytes).sum();
        // Each run reads and writes a slot.
        let slots = 2 * inputs[6].shape.dim(1) * slot * size_of::<f32>();
        Cost { bytes: (moved + slots) as u64, flops: (7 * d * output.shape.elements()) as u64 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        case::draw(draw)
    }
}
