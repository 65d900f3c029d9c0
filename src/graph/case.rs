//! Parity cases: operators with inputs and expected outputs, drawn from the choices of a property test.
//!
//! A case is drawn from a list of numbers, so the library needs no property-testing crate, and a failing case shrinks
//! by shrinking the numbers: every method gives its simplest value for 0.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{AnyOperator, Operator};
use crate::tensor::{DType, Desc, Shape, blocks};

/// One input of a case, contiguous.
#[derive(Clone, Debug)]
pub struct CaseInput {
    /// Dtype and shape.
    pub desc: Desc,
    /// The bytes, in the dtype's block format.
    pub data: Vec<u8>,
    /// True for a state that the operator writes or reads.
    pub is_state: bool,
    /// True if every row of a batch reads the whole input: a weight, a table, a state.
    pub is_shared: bool,
    /// True for the list of runs of rows that an operator with recurrent state takes; see [`CaseInput::runs`].
    pub is_runs: bool,
}

/// An operator, its inputs, and the right answer.
#[derive(Clone, Debug)]
pub struct Case {
    /// The operator with its attributes.
    pub op: Arc<dyn AnyOperator>,
    /// Its inputs.
    pub inputs: Vec<CaseInput>,
    /// The output in f64 arithmetic, in element order. For an I32 output: exact integers. For an operator that writes a
    /// state: the whole state afterwards.
    pub expected: Vec<f64>,
    /// Largest allowed error: one for all elements, or one per element.
    pub tolerance: Vec<f64>,
    /// Tolerance on a GPU, if its kernels multiply at lower precision.
    pub device_tolerance: Option<Vec<f64>>,
    /// The dimension that counts the rows of a batch, in the output and in each input that is not shared; by default
    /// the last dimension of each.
    pub row_dim: Option<usize>,
    /// The expected values of each output after the first.
    pub further: Vec<Answer>,
}

/// The expected values of an output with their tolerances; see [`Case`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The output in f64 arithmetic.
    pub expected: Vec<f64>,
    /// Largest allowed error: one for all elements, or one per element.
    pub tolerance: Vec<f64>,
    /// Tolerance on a GPU, if it differs.
    pub device_tolerance: Option<Vec<f64>>,
}

impl Case {
    /// A case with one tolerance for all elements; 0 demands the exact value.
    pub fn new(op: impl Operator, inputs: Vec<CaseInput>, expected: Vec<f64>, tolerance: f64) -> Case {
        Case::with_tolerances(op, inputs, expected, vec![tolerance])
    }

    /// A case with a tolerance for each element.
    pub fn with_tolerances(
        op: impl Operator,
        inputs: Vec<CaseInput>,
        expected: Vec<f64>,
        tolerance: Vec<f64>,
    ) -> Case {
        let (op, further) = (Arc::new(op), Vec::new());
        Case { op, inputs, expected, tolerance, device_tolerance: None, row_dim: None, further }
    }

    /// Sets the dimension that counts the rows of a batch.
    pub fn with_rows_in(mut self, dim: usize) -> Case {
        self.row_dim = Some(dim);
        self
    }

    /// Sets the tolerance on a GPU, for kernels that multiply at lower precision.
    pub fn with_device_tolerance(mut self, tolerance: Vec<f64>) -> Case {
        self.device_tolerance = Some(tolerance);
        self
    }

    /// Adds the expected values of the next output, for an operator with several.
    pub fn and(mut self, expected: Vec<f64>, tolerance: Vec<f64>) -> Case {
        self.further.push(Answer { expected, tolerance, device_tolerance: None });
        self
    }

    /// The expected values of all outputs, in order.
    pub fn answers(&self) -> Vec<Answer> {
        let Case { expected, tolerance, device_tolerance, .. } = self.clone();
        let first = Answer { expected, tolerance, device_tolerance };
        std::iter::once(first).chain(self.further.iter().cloned()).collect()
    }
}

/// Draws values from a list of choices. After the end of the list every choice is 0.
#[derive(Debug)]
pub struct Draw<'a> {
    choices: std::slice::Iter<'a, u32>,
    /// State of the random fill of tensors; seeded by the first choice, so that large tensors need few choices.
    noise: u64,
}

impl<'a> Draw<'a> {
    /// Draws from the given choices.
    pub fn new(choices: &'a [u32]) -> Draw<'a> {
        let mut choices = choices.iter();
        let noise = u64::from(choices.next().copied().unwrap_or(0));
        Draw { choices, noise }
    }

    /// The next choice.
    pub fn choice(&mut self) -> u32 {
        self.choices.next().copied().unwrap_or(0)
    }

    /// A number in the range; the simplest is its start.
    pub fn number(&mut self, range: RangeInclusive<usize>) -> usize {
        let span = range.end() - range.start() + 1;
        range.start() + self.choice() as usize % span
    }

    /// One of the given values; the simplest is the first.
    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.choice() as usize % all.len()].clone()
    }

    /// A boolean; the simplest is false.
    pub fn flag(&mut self) -> bool {
        self.choice() % 2 == 1
    }

    /// A number in [0, 1), from the noise generator instead of a choice.
    pub fn unit(&mut self) -> f64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.noise = self.noise.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.noise;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `n` values between -scale and scale, some of them zero or denormal.
    pub fn values(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n)
            .map(|_| match (self.unit() * 64.0) as u32 {
                0 => 0.0,
                1 => f32::from_bits(1 + (self.unit() * 1000.0) as u32),
                _ => (self.unit() as f32 * 2.0 - 1.0) * scale,
            })
            .collect()
    }
}

impl Draw<'_> {
    /// `n` elements of any real dtype, none above 64 in magnitude: random bytes, redrawn block by block until the
    /// scales they encode are in range.
    pub fn blocks(&mut self, dtype: DType, n: usize) -> Vec<u8> {
        let mut data = Vec::new();
        let mut values = vec![0.0; dtype.block_elements()];
        for _ in 0..n / dtype.block_elements() {
            let mut block = vec![0; dtype.block_bytes()];
            // About a third of all blocks pass; after 1000 failures a zero block is used.
            let found = (0..1000).any(|_| {
                block.iter_mut().for_each(|byte| *byte = (self.unit() * 256.0) as u8);
                let read = blocks::dequantize(dtype, &block, &mut values);
                read.is_ok() && values.iter().all(|x| x.abs() <= 64.0)
            });
            data.extend(if found { block } else { vec![0; dtype.block_bytes()] });
        }
        data
    }
}

impl CaseInput {
    /// The elements as F32; empty if the dtype is not real.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.desc.shape.elements()];
        match blocks::dequantize(self.desc.dtype, &self.data, &mut values) {
            Ok(()) => values,
            Err(_) => Vec::new(),
        }
    }

    /// An F32 input.
    pub fn f32(shape: impl Into<Shape>, values: &[f32]) -> CaseInput {
        CaseInput::bytes(DType::F32, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// An I32 input.
    pub fn i32(shape: impl Into<Shape>, values: &[i32]) -> CaseInput {
        CaseInput::bytes(DType::I32, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// An input of any dtype from its bytes.
    ///
    /// A shape that the dtype cannot have becomes an empty tensor, which the operator refuses.
    pub fn bytes(dtype: DType, shape: impl Into<Shape>, data: Vec<u8>) -> CaseInput {
        let strides = [0; crate::tensor::MAX_RANK];
        let shape = shape.into();
        let desc = Desc::contiguous(dtype, shape).unwrap_or(Desc { dtype, shape: [0].into(), strides });
        CaseInput { desc, data, is_state: false, is_shared: false, is_runs: false }
    }

    /// Marks the input as a state that the operator writes or reads.
    pub fn state(mut self) -> CaseInput {
        self.is_state = true;
        self.shared()
    }

    /// Marks the input as the runs of an operator with recurrent state, `I32[4, n_runs]`, as
    /// [`ModelBuilder::runs`](crate::model::ModelBuilder::runs) gives them. A test that cuts the batch cuts its runs.
    pub fn runs(mut self) -> CaseInput {
        self.is_runs = true;
        self.shared()
    }

    /// Marks the input as shared by all rows of a batch: splitting the batch keeps it whole.
    pub fn shared(mut self) -> CaseInput {
        self.is_shared = true;
        self
    }
}
