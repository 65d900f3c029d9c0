//! `matmul`: the product of two activations. For weights see `linear`.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::rule;
use crate::cpu::{CpuStep, StepError, vector};
use crate::device::constants::{MATMUL_THREADS as THREADS, MATMUL_TILE as TILE};
use crate::device::{Arg, Command, Gemm, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// `out[i, j] = Σ a[·, i] · b[·, j]` for `a`, `[k, n, ...]` of F32, F16 or BF16, and `b`, `F32[k, m, ...]`: `F32[n, m,
/// ...]`. In dimensions 2 and 3 each `a` is shared by adjacent `b`, as many as the ratio of their sizes: the heads of
/// grouped-query attention.
///
/// Products are added in 16 partial sums, element `i` to sum `i % 16`, with one rounding each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matmul {}

impl<'g> Tensor<'g> {
    /// `out[i, j] = Σ self[·, i] · b[·, j]`: `[k, n, ...]` and `F32[k, m, ...]` give `F32[n, m, ...]`.
    #[track_caller]
    pub fn matmul(self, b: Tensor<'g>) -> Tensor<'g> {
        self.graph().apply(Matmul {}, &[self, b])
    }
}

/// Fewer rows than this on either side would leave most of a tile empty: a wave then makes one element.
const FEW: usize = 16;
/// The least number of multiplications per matrix for the BLAS library, which is called once for every matrix.
const BLAS_WORK: usize = 1 << 26;

impl Matmul {
    /// Products of contiguous F32 matrices with the BLAS library.
    fn blas(lower: &mut Lower<'_>) {
        let [a, b] = lower.inputs() else { return };
        let [k, n, a2, a3] = a.shape.ne();
        let [_, m, b2, b3] = b.shape.ne();
        for (i3, i2) in (0..b3).flat_map(|i3| (0..b2).map(move |i2| (i3, i2))) {
            let a_at = a.row_offset(0, i2 / (b2 / a2), i3 / (b3 / a3));
            let c_at = lower.output().row_offset(0, i2, i3);
            lower.command(Command::Gemm(Gemm {
                m,
                n,
                k,
                dtype: DType::F32,
                a: (Which::Input(1), b.row_offset(0, i2, i3)),
                b: (Which::Input(0), a_at),
                c: (Which::Output, c_at),
                accumulate: false,
            }));
        }
    }
}

/// True if the BLAS library accepts each matrix of a tensor.
fn blas_takes(tensor: &Desc) -> bool {
    tensor.dtype == DType::F32
        && tensor.rows_are_contiguous()
        && (tensor.shape.dim(1) == 1 || tensor.strides[1] == tensor.shape.dim(0) * 4)
}

impl Operator for Matmul {
    const NAME: &'static str = "matmul";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [a, b] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        if !matches!(a.dtype, DType::F32 | DType::F16 | DType::BF16) || b.dtype != DType::F32 {
            return Err(ShapeError::rule("the first must be F32, F16 or BF16, the second F32", inputs));
        }
        let divides = |i: usize| b.shape.dim(i).is_multiple_of(a.shape.dim(i));
        if a.shape.dim(0) != b.shape.dim(0) || !divides(2) || !divides(3) {
            let rule = "both rows must have one length, and the first's sizes 2 and 3 divide the second's";
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        let [_, m, n2, n3] = b.shape.ne();
        Ok(Desc::contiguous(DType::F32, [a.shape.dim(1), m, n2, n3])?)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        CpuStep::scratch_for(inputs.first().map_or(0, |a| a.shape.dim(0)), threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, a, b) = (step.isa(), step.input(0), step.input(1));
        let row_of_a = &mut step.take_scratch()[..a.dim(0)];
        let group = (b.dim(2) / a.dim(2), b.dim(3) / a.dim(3));
        step.for_rows(|(j, i2, i3), out: &mut [f32]| {
            let b = b.row::<f32>((j, i2, i3));
            for (i, out) in out.iter_mut().enumerate() {
                let index = (i, i2 / group.0, i3 / group.1);
                if a.desc().dtype == DType::F32 {
                    *out = vector::dot(isa, a.row(index), b);
                } else {
                    a.load(0, index, row_of_a)?;
                    *out = vector::dot(isa, row_of_a, b);
                }
            }
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [a, b] = lower.inputs() else { return Ok(()) };
        let [k, n, ..] = a.shape.ne();
        let [_, m, b2, b3] = b.shape.ne();
        let elements = lower.output().shape.elements();
        if elements == 0 {
            return Ok(());
        }
        // A tile adds a row's products in the order of k, wherever in the tile the row is.
        let any = lower.is_deterministic();
        let few = !any && (n < FEW || m < FEW);
        let work = k.saturating_mul(n).saturating_mul(m);
        if lower.target().blas && !any && !few && work >= BLAS_WORK && lower.inputs().iter().all(blas_takes) {
            Matmul::blas(lower);
            return Ok(());
        }
        let mut args = vec![
            ("a", Arg::Address(Which::Input(0), 0)),
            ("a_at", Arg::Layout(Which::Input(0))),
            ("a_type", Arg::I32(a.dtype.number())),
            ("b", Arg::Address(Which::Input(1), 0)),
            ("b_at", Arg::Layout(Which::Input(1))),
            ("out", Arg::Address(Which::Output, 0)),
        ];
        if few {
            args.push(("elements", Arg::I64(elements as i64)));
            let blocks = elements.div_ceil(THREADS / lower.target().wave as usize);
            return lower.launch(Variant::new("matmul", "matmul_dots"), [blocks, 1, 1], THREADS, &args);
        }
        let (tiles_n, tiles_m) = (n.div_ceil(TILE), m.div_ceil(TILE));
        // Numbers beyond I32 are refused with the grid.
        let int = |n: usize| Arg::I32(i32::try_from(n).unwrap_or(i32::MAX));
        args.extend([("tiles_n", int(tiles_n)), ("tiles_m", int(tiles_m))]);
        let blocks = tiles_n.saturating_mul(tiles_m).saturating_mul(b2 * b3);
        lower.launch(Variant::new("matmul", "matmul_tiles"), [blocks, 1, 1], THREADS, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        let k = inputs.first().map_or(0, |a| a.shape.dim(0));
        Cost::streaming(inputs, output, 2 * (k * output.shape.elements()) as u64)
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        // Few and many rows on either side, which use different kernels.
        let many = draw.one_of(&[1, 1, 1, 17]);
        let (k, n, m) = (draw.number(1..=70), draw.number(1..=5) * many, draw.number(1..=5) * many);
        let a_sizes = [k, n, draw.number(1..=2), if many == 1 { draw.number(1..=2) } else { 1 }];
        let group = [draw.number(1..=3), if many == 1 { draw.number(1..=2) } else { 1 }];
        let b_sizes = [k, m, a_sizes[2] * group[0], a_sizes[3] * group[1]];
        let dtype = draw.one_of(&[DType::F32, DType::F16, DType::BF16]);
        let mut a = draw.values(a_sizes.iter().product(), 1.0);
        let b = draw.values(b_sizes.iter().product(), 1.0);
        let bytes: Vec<u8> = match dtype {
            DType::F16 => a.iter().flat_map(|&x| f16::from_f32(x).to_ne_bytes()).collect(),
            DType::BF16 => a.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect(),
            _ => bytemuck::cast_slice(&a).to_vec(),
        };
        a.iter_mut().for_each(|x| match dtype {
            DType::F16 => *x = f16::from_f32(*x).to_f32(),
            DType::BF16 => *x = bf16::from_f32(*x).to_f32(),
            _ => (),
        });
        let (mut expected, mut tolerance, mut device_tolerance) = (Vec::new(), Vec::new(), Vec::new());
        for (row, b) in b.chunks(k).enumerate() {
            let (i2, i3) = (row / m % b_sizes[2] / group[0], row / m / b_sizes[2] / group[1]);
            let matrix = &a[(i3 * a_sizes[2] + i2) * n * k..][..n * k];
            for a in matrix.chunks(k) {
                let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                expected.push(products.clone().sum());
                // One rounding for each product of a partial sum and 4 to join the sums, relative to the sum of
                // magnitudes.
                let size: f64 = products.map(f64::abs).sum();
                tolerance.push(size * (k as f64 / 16.0 + 5.0) * 2f64.powi(-24) + 1e-37);
                // Kernels add all products in one sequence.
                device_tolerance.push(size * k as f64 * 2f64.powi(-24) + 1e-37);
            }
        }
        let inputs = vec![CaseInput::bytes(dtype, a_sizes, bytes).shared(), CaseInput::f32(b_sizes, &b)];
        let case = Case::with_tolerances(Matmul {}, inputs, expected, tolerance);
        case.with_device_tolerance(device_tolerance).with_rows_in(1)
    }
}
