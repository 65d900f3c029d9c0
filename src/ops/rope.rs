//! `rope`: rotary position embedding (Su et al. 2021), with YaRN scaling (Peng et al. 2023).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::reduce::optional_input;
use super::rule;
use crate::cpu::{CpuStep, StepError, math};
pub use crate::device::RopeKind;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// Heads that a block of the kernel rotates: enough to share a token's angles, few enough to fill a device.
const HEADS: usize = 8;

/// Rotates the first `n_rot` elements of each head, pair by pair, by an angle that grows with the token's position:
/// pair `j` by `position · freq_base^(-2j / n_rot) / freq_factors[j]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// The pairs of elements.
    pub kind: RopeKind,
    /// The number of rotated elements of a head, even; the others are unchanged.
    pub n_rot: usize,
    /// The base of the frequencies.
    pub freq_base: f32,
    /// Factor of every angle: the inverse of the factor by which the context was extended.
    pub freq_scale: f32,
    /// Share of YaRN's extrapolation in high frequencies; 0 is plain (linear) scaling.
    pub ext_factor: f32,
    /// Factor of the rotated elements.
    pub attn_factor: f32,
    /// YaRN: rotations over the original context above which frequencies are extrapolated.
    pub beta_fast: f32,
    /// YaRN: rotations over the original context below which frequencies are interpolated.
    pub beta_slow: f32,
    /// YaRN: tokens of the original context.
    pub orig_ctx: usize,
    /// YaRN: round the bounds of the ramp outwards to whole pairs. Most models do; gpt-oss does not.
    pub whole_pairs: bool,
}

impl Rope {
    /// Rotary embedding without any scaling.
    pub fn new(kind: RopeKind, n_rot: usize, freq_base: f32) -> Rope {
        Rope {
            kind,
            n_rot,
            freq_base,
            freq_scale: 1.0,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            orig_ctx: 0,
            whole_pairs: true,
        }
    }

    /// The pair that makes `turns` rotations over the original context, as a real number.
    fn pair_of(&self, turns: f32) -> f64 {
        let n_rot = self.n_rot as f64;
        n_rot * (self.orig_ctx as f64 / (f64::from(turns) * 2.0 * PI)).ln()
            / (2.0 * f64::from(self.freq_base).ln())
    }

    /// The pairs at which YaRN's ramp from extrapolation to interpolation starts and ends.
    fn ramp(&self) -> (f64, f64) {
        let (low, high) = (self.pair_of(self.beta_fast), self.pair_of(self.beta_slow));
        let (low, high) = if self.whole_pairs { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(self.n_rot as f64 - 1.0));
        let span = high - low;
        (low, if span.is_finite() && span != 0.0 { span } else { 0.001 })
    }

    /// The ratio of each pair's frequency to that of the pair before.
    fn ratio(&self) -> f64 {
        f64::from(self.freq_base).powf(-2.0 / self.n_rot as f64)
    }

    /// Factor of the rotated elements; with YaRN it grows with the extension of the context.
    fn magnitude(&self) -> f64 {
        let attn_factor = f64::from(self.attn_factor);
        if self.ext_factor == 0.0 {
            return attn_factor;
        }
        attn_factor * (1.0 - 0.1 * f64::from(self.freq_scale).ln())
    }

    /// The scaled angle of pair `j`; `angle` is the unscaled one.
    fn scaled(&self, angle: f64, j: usize, (low, span): (f64, f64)) -> f64 {
        let interpolated = f64::from(self.freq_scale) * angle;
        if self.ext_factor == 0.0 {
            return interpolated;
        }
        let share = 1.0 - ((j as f64 - low) / span).clamp(0.0, 1.0);
        let share = share * f64::from(self.ext_factor);
        interpolated * (1.0 - share) + angle * share
    }

    /// Cosines and sines of a token, computed in f64: at position 100 000 an F32 angle would be off by 0.004.
    fn fill(&self, position: i32, factors: Option<&[f32]>, cos: &mut [f32], sin: &mut [f32]) {
        let (ramp, magnitude) = (self.ramp(), self.magnitude());
        // Each frequency is computed from the one before, with a rounding of 2⁻⁵³ per pair, far below F32.
        let ratio = self.ratio();
        let mut angle = f64::from(position);
        for (j, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
            let factor = factors.and_then(|factors| factors.get(j)).map_or(1.0, |&factor| f64::from(factor));
            let (s, c) = math::sin_cos(self.scaled(angle / factor, j, ramp));
            (*cos, *sin) = ((c * magnitude) as f32, (s * magnitude) as f32);
            angle *= ratio;
        }
    }

    fn rotate(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        let turned = |a: f32, b: f32, c: f32, s: f32| (a * c - b * s, a * s + b * c);
        let head = &mut head[..self.n_rot];
        match self.kind {
            RopeKind::Norm => {
                let (pairs, _) = head.as_chunks_mut::<2>();
                for ([a, b], (&c, &s)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
                    (*a, *b) = turned(*a, *b, c, s);
                }
            }
            RopeKind::Neox => {
                let (first, second) = head.split_at_mut(self.n_rot / 2);
                for ((a, b), (&c, &s)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    (*a, *b) = turned(*a, *b, c, s);
                }
            }
        }
    }
}

impl<'g> Tensor<'g> {
    /// Rotates the heads of `self`, `F32[head_dim, n_head, n_tokens]`, by the angles of the tokens' `positions`,
    /// `I32[n_tokens]`.
    #[track_caller]
    pub fn rope(self, positions: Tensor<'g>, rope: &Rope) -> Tensor<'g> {
        self.graph().apply(rope.clone(), &[self, positions])
    }

    /// Like [`Tensor::rope`], with pair `j`'s frequency divided by `factors[j]`, `F32[n_rot / 2]`.
    #[track_caller]
    pub fn rope_with_factors(self, positions: Tensor<'g>, factors: Tensor<'g>, rope: &Rope) -> Tensor<'g> {
        self.graph().apply(rope.clone(), &[self, positions, factors])
    }
}

impl Operator for Rope {
    const NAME: &'static str = "rope";

    fn defaults() -> Option<Rope> {
        Some(Rope::new(RopeKind::Norm, 0, 10000.0))
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, _, ..] = inputs else {
            return Err(ShapeError::Arity { wanted: "2 or 3", found: inputs.len() });
        };
        if inputs.len() > 3 {
            return Err(ShapeError::Arity { wanted: "2 or 3", found: inputs.len() });
        }
        let head_dim = x.shape.dim(0);
        if x.shape.dim(3) != 1 {
            return Err(ShapeError::rule("the first input must be [head_dim, n_head, n_tokens]", inputs));
        }
        if self.n_rot == 0 || !self.n_rot.is_multiple_of(2) || self.n_rot > head_dim {
            let rule = format!("n_rot is {}; it must be even and in 2..={head_dim}", self.n_rot);
            return Err(ShapeError::rule(rule, inputs));
        }
        if !(self.freq_base > 0.0 && self.freq_scale > 0.0) || (self.ext_factor != 0.0 && self.orig_ctx == 0)
        {
            let rule = format!("freq_base, freq_scale and YaRN's orig_ctx must be above 0: {self:?}");
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::vector(inputs, 1, DType::I32, x.shape.dim(2), "the positions")?;
        if inputs.len() == 3 {
            rule::vector(inputs, 2, DType::F32, self.n_rot / 2, "the frequency factors")?;
        }
        rule::like_first(inputs)
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        Memory::InPlace(0)
    }

    fn cpu_scratch(&self, _: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(self.n_rot, threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (x, positions) = (step.input(0), step.input(1).all::<i32>());
        let factors = (step.n_inputs() == 3).then(|| step.input(2).all::<f32>());
        let (cos, sin) = step.take_scratch().split_at_mut(self.n_rot / 2);
        let sin = &mut sin[..self.n_rot / 2];
        step.for_tiles((x.dim(1), 1), |mut tile| {
            let token = tile.i2().start;
            self.fill(positions[token], factors, cos, sin);
            for head in tile.i1() {
                self.rotate(tile.row_of(&x, head, token)?, cos, sin);
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n_head, n_tokens] = [1, 2].map(|i| lower.output().shape.dim(i));
        if lower.output().shape.elements() == 0 {
            return Ok(());
        }
        let bits = |x: f64| Arg::I64(x.to_bits() as i64);
        let (low, span) = self.ramp();
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("positions", Arg::Address(Which::Input(1), 0)),
            ("factors", optional_input(lower, 2)),
            ("out", Arg::Address(Which::Output, 0)),
            ("kind", Arg::I32(self.kind.number())),
            ("n_rot", Arg::I32(self.n_rot as i32)),
            ("ratio_bits", bits(self.ratio())),
            ("freq_scale", Arg::F32(self.freq_scale)),
            ("ext_factor", Arg::F32(self.ext_factor)),
            ("low_bits", bits(low)),
            ("span_bits", bits(span)),
            ("magnitude", Arg::F32(self.magnitude() as f32)),
            ("heads", Arg::I32(HEADS as i32)),
        ];
        lower.launch(Variant::new("rope", "rope"), [n_tokens, n_head.div_ceil(HEADS), 1], 256, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let pairs = (output.shape.rows() * self.n_rot / 2) as u64;
        Cost::streaming(inputs, output, 6 * pairs)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let n_rot = 2 * draw.number(1..=20);
        let (head_dim, n_head, n) = (n_rot + draw.number(0..=3), draw.number(1..=3), draw.number(1..=3));
        let kind = draw.one_of(&[RopeKind::Norm, RopeKind::Neox]);
        let mut op = Rope::new(kind, n_rot, draw.one_of(&[10_000.0, 500_000.0, 1e6]));
        if draw.flag() {
            op.freq_scale = draw.one_of(&[0.5, 0.125, 1.0 / 32.0]);
            op.ext_factor = draw.one_of(&[0.0, 1.0, 0.5]);
            op.attn_factor = draw.one_of(&[1.0, 1.25]);
            op.orig_ctx = draw.one_of(&[4096, 32768]);
            op.whole_pairs = draw.flag();
        }
        let positions: Vec<i32> =
            (0..n).map(|_| draw.one_of(&[0, 1, 17, 4095, 100_003, 1_000_000, -1])).collect();
        let factors: Option<Vec<f32>> =
            draw.flag().then(|| (0..n_rot / 2).map(|_| 1.0 + 7.0 * draw.unit() as f32).collect());
        let x = draw.values(head_dim * n_head * n, 3.0);
        let mut expected: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let mut tolerance = vec![0.0; x.len()];
        let ramp = op.ramp();
        for (row, (out, tolerance)) in
            expected.chunks_mut(head_dim).zip(tolerance.chunks_mut(head_dim)).enumerate()
        {
            for j in 0..n_rot / 2 {
                let factor = factors.as_ref().map_or(1.0, |factors| f64::from(factors[j]));
                let frequency = f64::from(op.freq_base).powf(-2.0 * j as f64 / n_rot as f64);
                let angle = f64::from(positions[row / n_head]) * frequency / factor;
                let (sin, cos) = op.scaled(angle, j, ramp).sin_cos();
                let (a, b) = match kind {
                    RopeKind::Norm => (2 * j, 2 * j + 1),
                    RopeKind::Neox => (j, j + n_rot / 2),
                };
                // Cosine and sine round to F32, then two products and a sum: 3 roundings of terms no larger than the
                // magnitude of both elements. The fourth covers the angle's own error, about 1e-9 for a million tokens.
                let bound = 4.0 * 2f64.powi(-24) * op.magnitude() * (out[a].abs() + out[b].abs());
                (tolerance[a], tolerance[b]) = (bound + 1e-37, bound + 1e-37);
                let m = op.magnitude();
                (out[a], out[b]) = ((out[a] * cos - out[b] * sin) * m, (out[a] * sin + out[b] * cos) * m);
            }
        }
        // On a GPU the reduced angle, below 1, rounds to F32 (0.8), and so do the last sum of its series and, scaled
        // down, the inner ones (1): sine and cosine are off by at most 1.8 roundings. The roundings of the magnitude,
        // two products and a sum make that 4.8; the angle's own error is added as above.
        let device_tolerance = tolerance.iter().map(|bound| bound * 6.0 / 4.0).collect();
        let mut inputs = vec![CaseInput::f32([head_dim, n_head, n], &x), CaseInput::i32([n], &positions)];
        inputs.extend(factors.map(|factors| CaseInput::f32([n_rot / 2], &factors).shared()));
        Case::with_tolerances(op, inputs, expected, tolerance).with_device_tolerance(device_tolerance)
    }
}
