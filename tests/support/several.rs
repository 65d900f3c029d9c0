//! Operators with several outputs, as a user would write them: one works in place of its input, one is recurrent and
//! writes a state.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use rfgraph::cpu::{CpuStep, StepError};
use rfgraph::device::{Arg, Lower, LowerError, Variant, Which};
use rfgraph::graph::case::{Case, CaseInput, Draw};
use rfgraph::graph::operator::OperatorRow;
use rfgraph::graph::{Cost, FurtherOutput, FurtherOutputs, Memory, Operator, ShapeError};
use rfgraph::tensor::{DType, Desc};
use serde::{Deserialize, Serialize};

/// The rows of these operators, for executors to register.
pub const ROWS: [OperatorRow; 2] = [OperatorRow::of::<Magnitude>(), OperatorRow::of::<Recur>()];

/// The one operator that `RFGRAPH_PARITY_ONLY` names, if it is set.
pub fn parity_only() -> Option<String> {
    let only = std::env::var("RFGRAPH_PARITY_ONLY").ok()?;
    let known = rfgraph::ops::TABLE.iter().chain(&ROWS).any(|row| row.name == only);
    assert!(known, "RFGRAPH_PARITY_ONLY={only}: there is no such operator");
    Some(only)
}

const KERNELS: &str = r#"
#include "platform.h"

KERNEL_OF(64, magnitude)(const float* x, float* magnitudes, float* signs, i64 n) {
    i64 i = (i64)block_index_x() * 64 + thread_index();
    if (i >= n) return;
    float value = x[i];
    signs[i] = value < 0.0f ? -1.0f : 1.0f;
    magnitudes[i] = value < 0.0f ? -value : value;
}

// A block computes a head, token after token.
KERNEL_OF(64, recur)(const float* x, const int* slots, float* y, float* state, float* sums, int n, int n_head,
                     int n_tokens, int n_slots, float keep) {
    int head = block_index_x();
    for (int i = thread_index(); i < n; i += 64) {
        float sum = 0.0f;
        for (int t = 0; t < n_tokens; ++t) {
            float value = x[i + n * (head + (i64)n_head * t)];
            if (slots[t] >= 0 && slots[t] < n_slots) {
                float* kept = state + i + n * (head + (i64)n_head * slots[t]);
                value = keep * *kept + value;
                *kept = value;
            }
            y[i + n * (head + (i64)n_head * t)] = value;
            sum += value;
        }
        sums[i + n * head] = sum;
    }
}
"#;

const THREADS: usize = 64;

fn contiguous(lower: &Lower<'_>) -> Result<(), LowerError> {
    match lower.inputs().iter().all(Desc::is_contiguous) {
        true => Ok(()),
        false => Err(lower.unsupported("the inputs must lie without gaps")),
    }
}

/// For `x` in `F32`: `|x|`, in place, and the signs, 1 or -1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Magnitude {}

impl Operator for Magnitude {
    const NAME: &'static str = "magnitude";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        match inputs {
            [x] if x.dtype == DType::F32 => Ok(Desc::contiguous(DType::F32, x.shape)?),
            _ => Err(ShapeError::rule("the input must be one F32 tensor", inputs)),
        }
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let signs = FurtherOutput { desc: self.infer(inputs)?, memory: Memory::Fresh };
        Ok([signs].into_iter().collect())
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (x, output) = (step.input(0), *step.output());
        step.for_parts([0, 0], 16, |_, [mut magnitudes, mut signs]| {
            for row in 0..output.shape.rows() {
                let (i1, i2, i3) = output.row_index(row);
                let magnitudes = magnitudes.row_of(&x, i1, i2, i3)?;
                for (x, sign) in magnitudes.iter_mut().zip(signs.row::<f32>(i1, i2, i3)?) {
                    (*x, *sign) = if *x < 0.0 { (-*x, -1.0) } else { (*x, 1.0) };
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        contiguous(lower)?;
        let n = lower.output().shape.elements();
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("magnitudes", Arg::Address(Which::Output, 0)),
            ("signs", Arg::Address(Which::OutputAt(1), 0)),
            ("n", Arg::I64(n as i64)),
        ];
        let variant = Variant::own("magnitude", KERNELS, "magnitude");
        lower.launch(variant, [n.div_ceil(THREADS), 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let shape = [draw.number(1..=70), draw.number(1..=5), draw.number(1..=2)];
        let x = draw.values(shape.iter().product(), 2.0);
        let magnitudes = x.iter().map(|x| f64::from(x.abs())).collect();
        let signs = x.iter().map(|&x| if x < 0.0 { -1.0 } else { 1.0 }).collect();
        Case::new(Magnitude {}, vec![CaseInput::f32(shape, &x)], magnitudes, 0.0).and(signs, vec![0.0])
    }
}

/// `x` `F32[n, n_head, n_tokens]`, a state `F32[n, n_head, n_slots]` and slots `I32[n_tokens]`, token after token: `y`
/// is `keep` times the token's slot of the state, plus `x`, and is stored in the slot. A negative slot means none, and
/// `y` is `x`. Outputs: `y`, the state, and the sum of `y` over the tokens, `F32[n, n_head]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recur {
    /// A power of two, so that the product is exact, with and without a fused multiply-add.
    pub keep: f32,
}

impl Operator for Recur {
    const NAME: &'static str = "recur";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, state, slots] = inputs else {
            return Err(ShapeError::Arity { wanted: "3", found: inputs.len() });
        };
        let same = (0..2).all(|dim| x.shape.dim(dim) == state.shape.dim(dim));
        let types = [x.dtype, state.dtype, slots.dtype] == [DType::F32, DType::F32, DType::I32];
        if !same || !types || slots.shape.ne() != [x.shape.dim(2), 1, 1, 1] || x.shape.dim(3) != 1 {
            let rule =
                "x, state and slots must be F32[n, n_head, n_tokens], F32[n, n_head, n_slots], I32[n_tokens]";
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(Desc::contiguous(DType::F32, x.shape)?)
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let sums = Desc::contiguous(DType::F32, [inputs[0].shape.dim(0), inputs[0].shape.dim(1)])?;
        let state = FurtherOutput { desc: inputs[1], memory: Memory::WritesState(1) };
        Ok([state, FurtherOutput { desc: sums, memory: Memory::Fresh }].into_iter().collect())
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (x, slots) = (step.input(0), step.input(2).all::<i32>());
        let n_slots = step.output_at(1).shape.dim(2);
        step.for_parts([1, 1, 1], 1, |heads, [mut y, mut state, mut sums]| {
            for head in heads {
                let sums = sums.row::<f32>(head, 0, 0)?;
                sums.fill(0.0);
                for (t, &slot) in slots.iter().enumerate() {
                    let y = y.row::<f32>(head, t, 0)?;
                    x.load(0, (head, t, 0), y)?;
                    if slot >= 0 {
                        let slot = StepError::check("a slot of the state", slot, n_slots)?;
                        for (y, kept) in y.iter_mut().zip(state.row::<f32>(head, slot, 0)?) {
                            *y += self.keep * *kept;
                            *kept = *y;
                        }
                    }
                    sums.iter_mut().zip(y).for_each(|(sum, y)| *sum += *y);
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        contiguous(lower)?;
        let [n, n_head, n_tokens, _] = lower.output().shape.ne();
        let n_slots = lower.output_at(1).map_or(0, |state| state.shape.dim(2));
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("slots", Arg::Address(Which::Input(2), 0)),
            ("y", Arg::Address(Which::Output, 0)),
            ("state", Arg::Address(Which::OutputAt(1), 0)),
            ("sums", Arg::Address(Which::OutputAt(2), 0)),
            ("n", Arg::I32(n as i32)),
            ("n_head", Arg::I32(n_head as i32)),
            ("n_tokens", Arg::I32(n_tokens as i32)),
            ("n_slots", Arg::I32(n_slots as i32)),
            ("keep", Arg::F32(self.keep)),
        ];
        lower.launch(Variant::own("recur", KERNELS, "recur"), [n_head, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let elements = output.shape.elements() as u64;
        Cost { bytes: Cost::streaming(inputs, output, 0).bytes, flops: 3 * elements }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let op = Recur { keep: draw.one_of(&[0.5, 0.25]) };
        let (n, n_head, n_slots) = (draw.number(1..=70), draw.number(1..=4), draw.number(1..=5));
        let n_tokens = draw.number(1..=6);
        // Some slots are repeated: a later token reads the value that an earlier one stored.
        let slots: Vec<i32> = (0..n_tokens).map(|_| draw.number(0..=n_slots) as i32 - 1).collect();
        let (x, before) = (draw.values(n * n_head * n_tokens, 2.0), draw.values(n * n_head * n_slots, 2.0));
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let (mut y, mut state, mut sums) = (wide(&x), wide(&before), vec![0.0; n * n_head]);
        for (y, &slot) in y.chunks_mut(n * n_head).zip(&slots) {
            if let Ok(slot) = usize::try_from(slot) {
                let kept = &mut state[slot * n * n_head..][..n * n_head];
                y.iter_mut().zip(&*kept).for_each(|(y, kept)| *y += f64::from(op.keep) * kept);
                kept.copy_from_slice(y);
            }
            sums.iter_mut().zip(y).for_each(|(sum, y)| *sum += *y);
        }
        // At most twelve roundings of numbers below 32.
        let tolerance = vec![12.0 * 32.0 * 2f64.powi(-24)];
        let inputs = vec![
            CaseInput::f32([n, n_head, n_tokens], &x),
            CaseInput::f32([n, n_head, n_slots], &before).state(),
            CaseInput::i32([n_tokens], &slots),
        ];
        let case = Case::with_tolerances(op, inputs, y, tolerance.clone());
        case.and(state, tolerance.clone()).and(sums, tolerance)
    }
}
