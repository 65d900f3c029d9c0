//! `project`: several weights multiplied with the same activations in one step.

use serde::{Deserialize, Serialize};

use super::UnaryKind;
use super::linear::gpu::{FEW_TOKENS, Location, Products, takes_quantized};
use super::quantize::{dequantize_row, elements, quantize_row, words};
use crate::cpu::{CpuStep, StepError, View};
use crate::device::{Lower, LowerError, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Memory, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc, Shape};

/// `[x·W₁ᵀ; x·W₂ᵀ; …]`, with the results of one row concatenated, or with a gate `gate(x·W₁ᵀ) · (x·W₂ᵀ)`.
///
/// Inputs: `x`, F32 `[k, …]` or quantized rows of it ([`Quantize`](super::Quantize)), then one to three weights `[k,
/// n]` of the same dtype; with a gate, two weights of the same shape. Output F32 `[sum of all n, …]` or `[n, …]`.
///
/// With a residual: one weight, and as last input F32 `[n, …]`, which is added.
///
/// Compiling for a GPU creates it from products that read the same activations: one launch reads all their weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The activation function of the first product, which is then multiplied with the second.
    pub gate: Option<UnaryKind>,
    /// True if the last input is a residual.
    pub residual: bool,
}

impl Project {
    /// The most weights of one step.
    pub const MOST_WEIGHTS: usize = 3;

    /// The most rows of `x` for more than one weight on a GPU: more rows are bound by multiplying, not by reading.
    pub const MOST_ROWS: usize = FEW_TOKENS;

    /// True if products with weights of this dtype read quantized activations, as for block formats.
    pub fn takes_quantized(dtype: DType) -> bool {
        takes_quantized(dtype)
    }

    /// Splits the inputs: `x`, the weights, and the residual.
    pub(super) fn parts<'i, T>(&self, inputs: &'i [T]) -> Option<(&'i T, &'i [T], Option<&'i T>)> {
        let (x, rest) = inputs.split_first()?;
        if !self.residual {
            return Some((x, rest, None));
        }
        let (residual, weights) = rest.split_last()?;
        Some((x, weights, Some(residual)))
    }
}

impl<'g> Tensor<'g> {
    /// The products of `self` with each of these weights, concatenated in each row; see [`Project`].
    #[track_caller]
    pub fn project(self, weights: &[Tensor<'g>]) -> Tensor<'g> {
        let inputs: Vec<Tensor<'g>> = [self].iter().chain(weights).copied().collect();
        self.graph().apply(Project::default(), &inputs)
    }
}

/// Elements of a row of `x` before it was quantized.
fn row_elements(x: &Desc) -> Option<usize> {
    match x.dtype {
        DType::F32 => Some(x.shape.dim(0)),
        DType::I32 => elements(x.shape.dim(0)),
        _ => None,
    }
}

impl Operator for Project {
    const NAME: &'static str = "project";

    fn defaults() -> Option<Project> {
        Some(Project { gate: None, residual: false })
    }

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let count = match (self.gate, self.residual) {
            (None, false) => 1..=Project::MOST_WEIGHTS,
            (None, true) => 1..=1,
            (Some(_), false) => 2..=2,
            (Some(_), true) => 0..=0,
        };
        let parts = self
            .parts(inputs)
            .filter(|(_, weights, _)| !weights.is_empty() && count.contains(&weights.len()));
        let Some((x, weights, residual)) = parts else {
            return Err(ShapeError::Arity {
                wanted: "x, one to three weights (with a gate two, with a residual one), and the residual",
                found: inputs.len(),
            });
        };
        let Some(k) = row_elements(x).filter(|_| x.is_contiguous()) else {
            return Err(ShapeError::rule("x must be F32 or quantized rows, without gaps", inputs));
        };
        let (dtype, first) = (weights[0].dtype, weights[0].shape.dim(1));
        let matrix = |w: &Desc| {
            w.dtype == dtype && w.is_contiguous() && w.shape.dim(0) == k && w.shape.rows() == w.shape.dim(1)
        };
        if !dtype.is_float() || !weights.iter().all(matrix) {
            let rule = format!("the weights must be matrices of one dtype in rows of {k}, without gaps");
            return Err(ShapeError::rule(rule, inputs));
        }
        if self.gate.is_some() && weights.iter().any(|w| w.shape.dim(1) != first) {
            return Err(ShapeError::rule("gate and up must have one shape", inputs));
        }
        let mut sizes = x.shape.ne();
        sizes[0] = match self.gate {
            Some(_) => first,
            None => weights.iter().map(|w| w.shape.dim(1)).sum(),
        };
        let shape = Shape::new(&sizes[..x.shape.rank()]).unwrap_or(x.shape);
        let output = Desc::contiguous(DType::F32, shape)?;
        let like_output = |residual: &Desc| {
            residual.dtype == DType::F32 && residual.is_contiguous() && residual.shape.ne() == shape.ne()
        };
        if !residual.is_none_or(like_output) {
            return Err(ShapeError::rule(format!("the residual must be F32 {shape} without gaps"), inputs));
        }
        Ok(output)
    }

    fn memory(&self, inputs: &[Desc]) -> Memory {
        if self.residual { Memory::InPlace(inputs.len() - 1) } else { Memory::Fresh }
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        let k = inputs.first().and_then(row_elements).unwrap_or(0);
        CpuStep::scratch_for(2 * k, threads)
    }

    /// Plain code: this step is made for GPUs, and its result here is their reference.
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let x = step.input(0);
        let k = row_elements(x.desc()).unwrap_or(0);
        let (values, w) = step.take_scratch().split_at_mut(k);
        let w = &mut w[..k];
        let n_inputs = step.n_inputs();
        let weights = 1..n_inputs - usize::from(self.residual);
        let weights: Vec<View<'_>> = weights.map(|i| step.input(i)).collect();
        let fill = |row, out: &mut [f32]| {
            match x.desc().dtype {
                DType::F32 => values.copy_from_slice(x.row(row)),
                _ => dequantize_row(x.row(row), values),
            }
            let mut dot = |weight: &View<'_>, i: usize| -> Result<f32, StepError> {
                weight.load(0, (i, 0, 0), w)?;
                Ok(w.iter().zip(&*values).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() as f32)
            };
            if let Some(gate) = self.gate {
                for (i, out) in out.iter_mut().enumerate() {
                    let mut g = [dot(&weights[0], i)?];
                    gate.gate(step.isa(), &mut g, &[dot(&weights[1], i)?]);
                    *out = g[0];
                }
                return Ok(());
            }
            let rows = weights.iter().flat_map(|weight| (0..weight.dim(1)).map(move |i| (weight, i)));
            for (out, (weight, i)) in out.iter_mut().zip(rows) {
                let rest = if self.residual { *out } else { 0.0 };
                *out = dot(weight, i)? + rest;
            }
            Ok(())
        };
        match self.residual {
            true => step.for_rows_of(n_inputs - 1, fill),
            false => step.for_rows::<f32>(fill),
        }
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let Some((x, weights, residual)) = self.parts(lower.inputs()) else { return Ok(()) };
        let k = row_elements(x).unwrap_or(0);
        if lower.output().shape.elements() == 0 || k == 0 {
            return Ok(());
        }
        let place = |input: usize| (Which::Input(input as u32), 0);
        let placed: Vec<(Location, usize)> =
            weights.iter().enumerate().map(|(i, w)| (place(i + 1), w.shape.dim(1))).collect();
        let products = Products {
            dtype: weights[0].dtype,
            k,
            tokens: x.shape.rows(),
            weights: &placed,
            gate: self.gate,
            bias: None,
            residual: residual.map(|_| place(weights.len() + 1)),
        };
        match x.dtype {
            DType::F32 => products.of_floats(lower, place(0)),
            _ if takes_quantized(products.dtype) => products.of_quantized(lower, place(0)),
            dtype => Err(lower.unsupported(format!(
                "weights of {} take F32 activations on a GPU, not words of {dtype}",
                products.dtype
            ))),
        }
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let (rows, elements) = self.parts(inputs).map_or((0, 0), |(x, weights, _)| {
            (x.shape.rows(), weights.iter().map(|w| w.shape.elements()).sum::<usize>())
        });
        Cost::streaming(inputs, output, 2 * (elements * rows) as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let all: Vec<DType> = DType::all().filter(|dtype| dtype.is_float()).collect();
        let dtype = draw.one_of(&all);
        let blocks = draw.number(1..=(512 / dtype.block_elements().max(32)).min(9));
        let k = blocks * dtype.block_elements().max(32);
        let tokens = draw.one_of(&[1, 2, 5, 8]);
        let gate = draw.flag().then(|| draw.one_of(&[UnaryKind::Silu, UnaryKind::Gelu, UnaryKind::Relu]));
        let residual = gate.is_none() && draw.flag();
        let n_weights = match gate {
            Some(_) => 2,
            None if residual => 1,
            None => draw.number(1..=Project::MOST_WEIGHTS),
        };
        let n = draw.number(1..=19);
        let sizes: Vec<usize> =
            (0..n_weights).map(|_| if gate.is_some() { n } else { draw.number(1..=19) }).collect();
        let weights: Vec<CaseInput> = sizes
            .iter()
            .map(|&n| CaseInput::bytes(dtype, [k, n], draw.blocks(dtype, k * n)).shared())
            .collect();
        // Plain weights take plain activations, as in compiled graphs.
        let quantized = takes_quantized(dtype);
        let mut x = draw.values(k * tokens, 2.0);
        let mut packed = vec![0; words(k) * tokens];
        for (x, packed) in x.chunks_mut(k).zip(packed.chunks_mut(words(k))).filter(|_| quantized) {
            quantize_row(x, packed);
            dequantize_row(packed, x);
        }
        let (mut expected, mut tolerance) = answer(gate, &weights, &x, k);
        let rest = draw.values(if residual { expected.len() } else { 0 }, 1.0);
        for ((y, bound), rest) in expected.iter_mut().zip(&mut tolerance).zip(&rest) {
            *y += f64::from(*rest);
            *bound += 2f64.powi(-23) * f64::from(rest.abs());
        }
        let x = match quantized {
            true => CaseInput::i32([words(k), tokens], &packed),
            false => CaseInput::f32([k, tokens], &x),
        };
        let mut inputs: Vec<CaseInput> = [x].into_iter().chain(weights).collect();
        inputs.extend(residual.then(|| CaseInput::f32([sizes[0], tokens], &rest)));
        Case::with_tolerances(Project { gate, residual }, inputs, expected, tolerance)
    }
}

/// The output in f64, and the allowed error of each element.
fn answer(gate: Option<UnaryKind>, weights: &[CaseInput], x: &[f32], k: usize) -> (Vec<f64>, Vec<f64>) {
    let weights: Vec<Vec<f32>> = weights.iter().map(CaseInput::to_f32).collect();
    let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
    for x in x.chunks(k) {
        let dot = |w: &[f32]| {
            let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
            // As in `linear`: at most k roundings of the whole in F32, twice that for the scales.
            let size = terms.clone().map(f64::abs).sum::<f64>();
            (terms.sum::<f64>(), 2.0 * (k as f64 + 8.0) * 2f64.powi(-24) * size + 1e-30)
        };
        let rows: Vec<Vec<(f64, f64)>> = weights.iter().map(|w| w.chunks(k).map(dot).collect()).collect();
        match gate {
            None => rows.into_iter().flatten().for_each(|(value, bound)| {
                expected.push(value);
                tolerance.push(bound);
            }),
            Some(gate) => rows[0].iter().zip(&rows[1]).for_each(|(&(g, g_bound), &(u, u_bound))| {
                let y = gate.exact(g);
                expected.push(y * u);
                // The slopes of these activations stay below 1.2 (GELU's largest is 1.13).
                let y_bound = 1.2 * g_bound + gate.tolerance(g, y) + y.abs() * 2f64.powi(-23);
                tolerance.push(y_bound * (u.abs() + u_bound) + y.abs() * u_bound + 1e-30);
            }),
        }
    }
    (expected, tolerance)
}
