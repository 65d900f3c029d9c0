//! `short_conv`: a causal convolution of each channel over the last few rows of its sequence.

use serde::{Deserialize, Serialize};

use super::reduce::optional_input;
use super::{rule, runs};
use crate::cpu::{CpuStep, StepError, math, vector};
use crate::device::constants::{SHORT_CONV_ROWS, SHORT_CONV_THREADS};
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, FurtherOutput, FurtherOutputs, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `y[c, t] = Σ weight[i, c] · x[c, t - (n_taps - 1) + i]`, plus the bias, for each channel `c` and each row `t` of a
/// sequence: a causal depthwise convolution. Gu and Dao, "Mamba", 2023, among others.
///
/// Inputs: `x` `F32[n, n_rows]`, `weight` `F32[n_taps, n]` (the tap of the newest input is last), a recurrent state
/// `F32[n, n_taps - 1, n_slots]`, the [runs](crate::model::ModelBuilder::runs), and optionally a bias `F32[n]`. Outputs: `y`, 0 for rows of no run; the
/// state, which holds a sequence's last inputs, the newest last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShortConv {
    /// Apply SiLU to the sum.
    pub silu: bool,
}

/// The most taps; published models have 3 or 4.
const MOST_TAPS: usize = 16;

/// Channels of a worker's piece: their window of inputs stays in the first cache.
const CHANNELS: usize = 256;

impl<'g> Tensor<'g> {
    /// The convolution of each channel of `self` over the rows of its sequence; see [`ShortConv`].
    #[track_caller]
    pub fn short_conv(
        self,
        weight: Tensor<'g>,
        bias: Option<Tensor<'g>>,
        (state, runs): (Tensor<'g>, Tensor<'g>),
        silu: bool,
    ) -> Tensor<'g> {
        let mut inputs = vec![self, weight, state, runs];
        inputs.extend(bias);
        let [y, _] = self.graph().apply_several(ShortConv { silu }, &inputs);
        y
    }
}

impl Operator for ShortConv {
    const NAME: &'static str = "short_conv";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, weight, state, ..] = inputs else {
            return Err(ShapeError::Arity { wanted: "4 or 5", found: inputs.len() });
        };
        if !(4..=5).contains(&inputs.len()) {
            return Err(ShapeError::Arity { wanted: "4 or 5", found: inputs.len() });
        }
        let [n, n_rows, ..] = x.shape.ne();
        let (taps, n_slots) = (weight.shape.dim(0), state.shape.dim(2));
        let fits = (2..=MOST_TAPS).contains(&taps)
            && [x.dtype, weight.dtype, state.dtype] == [DType::F32; 3]
            && x.shape.ne() == [n, n_rows, 1, 1]
            && weight.shape.ne() == [taps, n, 1, 1]
            && state.shape.ne() == [n, taps - 1, n_slots, 1];
        if !fits || !weight.is_contiguous() || !state.is_contiguous() {
            let rule = format!(
                "x, weight and state must be F32[n, n_rows], F32[n_taps, n], F32[n, n_taps - 1, n_slots] with 2 to \
                 {MOST_TAPS} taps, the latter two without gaps"
            );
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        runs::check(inputs, 3)?;
        if inputs.len() == 5 {
            rule::vector(inputs, 4, DType::F32, n, "the bias")?;
        }
        rule::like_first(inputs)
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let state = FurtherOutput { desc: inputs[2], memory: Memory::WritesState(2) };
        Ok(FurtherOutputs::from_slice(&[state]))
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        let taps = inputs.get(1).map_or(0, |weight| weight.shape.dim(0));
        CpuStep::scratch_for(2 * taps * CHANNELS, threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x, weight) = (step.isa(), step.input(0), step.input(1).all::<f32>());
        let (taps, n_rows) = (step.input(1).dim(0), x.dim(1));
        let bias = (step.n_inputs() == 5).then(|| step.input(4).all::<f32>());
        let all = runs::read(step.input(3).all::<i32>(), n_rows, step.output_at(1).shape.dim(2));
        let (by_tap, window) = step.take_scratch().split_at_mut(taps * CHANNELS);
        step.for_parts([0, 0], CHANNELS, |channels, [mut y, mut state]| {
            let n = channels.len();
            vector::transpose(isa, &weight[channels.start * taps..channels.end * taps], taps, by_tap, n);
            for row in 0..n_rows {
                y.row::<f32>(row, 0, 0)?.fill(0.0);
            }
            for run in all.clone() {
                let run = run?;
                // The inputs of the row and before it; input `i` of the sequence's rows and state is in row `i % taps`.
                for (i, window) in window.chunks_exact_mut(n).take(taps - 1).enumerate() {
                    match run.source {
                        Some(source) => window.copy_from_slice(state.row::<f32>(i, source, 0)?),
                        None => window.fill(0.0),
                    }
                }
                let n_inputs = run.rows.len() + taps - 1;
                for (t, row) in run.rows.enumerate() {
                    let newest = (t + taps - 1) % taps;
                    x.load(channels.start, (row, 0, 0), &mut window[newest * n..][..n])?;
                    let y = y.row::<f32>(row, 0, 0)?;
                    if let Some(bias) = bias {
                        y.copy_from_slice(&bias[channels.clone()]);
                    }
                    for (i, weight) in by_tap.chunks_exact(n).take(taps).enumerate() {
                        vector::add_products(isa, y, weight, &window[(t + i) % taps * n..][..n]);
                    }
                    if self.silu {
                        vector::map(isa, y, math::silu);
                    }
                }
                for i in 0..taps - 1 {
                    let input = (n_inputs - (taps - 1) + i) % taps;
                    state.row(i, run.target, 0)?.copy_from_slice(&window[input * n..][..n]);
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n, n_rows, ..] = lower.output().shape.ne();
        let (taps, n_runs) = (lower.inputs()[1].shape.dim(0), lower.inputs()[3].shape.dim(1));
        let n_slots = lower.output_at(1).map_or(0, |state| state.shape.dim(2));
        if n * n_rows == 0 {
            return Ok(());
        }
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("weight", Arg::Address(Which::Input(1), 0)),
            ("bias", optional_input(lower, 4)),
            ("runs", Arg::Address(Which::Input(3), 0)),
            ("y", Arg::Address(Which::Output, 0)),
            ("state", Arg::Address(Which::OutputAt(1), 0)),
            ("n_runs", Arg::I32(n_runs as i32)),
            ("n_slots", Arg::I32(n_slots as i32)),
            ("silu", Arg::I32(self.silu.into())),
        ];
        let grid = [n.div_ceil(SHORT_CONV_THREADS), n_rows.div_ceil(SHORT_CONV_ROWS), 1];
        let variant = Variant::new("short_conv", "short_conv").define("TAPS", taps);
        lower.launch(variant, grid, SHORT_CONV_THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let (taps, elements) = (inputs[1].shape.dim(0), output.shape.elements());
        // Each run reads and writes a slot.
        let slots = 2 * inputs[3].shape.dim(1) * (taps - 1) * output.shape.dim(0) * size_of::<f32>();
        let moved = inputs[0].data_bytes() + inputs[1].data_bytes() + output.data_bytes() + slots;
        Cost { bytes: moved as u64, flops: (2 * taps * elements) as u64 }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n, taps) = (draw.one_of(&[3, 1, 64, 300, 577]), draw.one_of(&[4, 3, 2, 5]));
        let drawn = runs::draw(draw);
        let (op, biased) = (ShortConv { silu: draw.flag() }, draw.flag());
        let (n_rows, n_slots, slot) = (drawn.n_rows, drawn.n_slots, n * (taps - 1));
        let x = draw.values(n * n_rows, 2.0);
        let weight = draw.values(n * taps, 1.0);
        let before = draw.values(slot * n_slots, 2.0);
        let bias = if biased { draw.values(n, 1.0) } else { vec![0.0; n] };
        let mut state: Vec<f64> = before.iter().copied().map(f64::from).collect();
        let (mut y, mut tolerance) = (vec![0.0; n * n_rows], vec![0.0; n * n_rows]);
        for run in &drawn.runs {
            let mut inputs = vec![0.0; slot];
            if let Some(source) = run.source {
                inputs.copy_from_slice(&before[source * slot..][..slot]);
            }
            inputs.extend_from_slice(&x[run.rows.start * n..run.rows.end * n]);
            for (t, row) in run.rows.clone().enumerate() {
                for c in 0..n {
                    let (mut sum, mut size) = (f64::from(bias[c]), f64::from(bias[c]).abs());
                    for i in 0..taps {
                        let product = f64::from(weight[c * taps + i]) * f64::from(inputs[(t + i) * n + c]);
                        (sum, size) = (sum + product, size + product.abs());
                    }
                    // SiLU's slope is below 1.1, and its own error six roundings.
                    let silu = sum / (1.0 + (-sum).exp());
                    y[row * n + c] = if op.silu { silu } else { sum };
                    let roundings = (taps + 1) as f64 * size * 1.1 + 6.0 * silu.abs();
                    tolerance[row * n + c] = roundings * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE);
                }
            }
            let last = inputs[inputs.len() - slot..].iter().copied().map(f64::from);
            state.splice(run.target * slot..(run.target + 1) * slot, last);
        }
        let mut inputs = vec![
            CaseInput::f32([n, n_rows], &x),
            CaseInput::f32([taps, n], &weight).shared(),
            CaseInput::f32([n, taps - 1, n_slots], &before).state(),
            drawn.input,
        ];
        inputs.extend(biased.then(|| CaseInput::f32([n], &bias).shared()));
        Case::with_tolerances(op, inputs, y, tolerance).and(state, vec![0.0])
    }
}
