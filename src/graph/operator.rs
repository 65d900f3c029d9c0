//! What an operator promises. Built-in operators and a user's own implement the same trait.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ShapeError;
use super::case::{Case, Draw};
use crate::cpu::{CpuStep, StepError};
use crate::hip::{Lower, LowerError};
use crate::tensor::Desc;

/// What an operator's output is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Memory of its own.
    Fresh,
    /// Memory of its own, or the memory of this input where nothing else reads that input later.
    /// The operator must work when both are the same bytes; see [`CpuStep::for_spans`].
    InPlace(usize),
    /// The same bytes as this input, `offset` bytes further on. Nothing runs.
    View {
        /// Which input.
        input: usize,
        /// Bytes from the input's first element to the output's.
        offset: usize,
    },
    /// The same bytes as this input, a state, which the operator writes into.
    WritesState(usize),
}

/// What a step costs at least: the yardstick of `rfgraph graph` and of every benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: u64,
    /// Additions and multiplications.
    pub flops: u64,
}

impl Cost {
    /// Every input read once, the output written once, and this many operations.
    pub fn streaming(inputs: &[Desc], output: &Desc, flops: u64) -> Cost {
        let bytes = inputs.iter().chain([output]).map(|desc| desc.data_bytes() as u64).sum();
        Cost { bytes, flops }
    }
}

/// An operator: a small struct of its attributes.
///
/// The attributes are plain serde data, so that a plan can be written down and read back. Attributes
/// must not be infinite or NaN: JSON has no such numbers.
pub trait Operator: fmt::Debug + Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// The name in plans, messages and tables: lower case, the field's word.
    const NAME: &'static str;

    /// Dtype and shape rule: the output's description, or what is wrong with the inputs.
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError>;

    /// What the output is in memory. Called only with inputs that [`Operator::infer`] accepts.
    fn memory(&self, inputs: &[Desc]) -> Memory {
        let _ = inputs;
        Memory::Fresh
    }

    /// Bytes of scratch memory that the CPU step needs, on this many threads.
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        let _ = (inputs, output, threads);
        0
    }

    /// The kernel that the CPU step runs, where the operator has several: shown by `rfgraph graph`.
    fn cpu_kernel(&self, inputs: &[Desc]) -> String {
        let _ = inputs;
        Self::NAME.into()
    }

    /// The meaning, and the CPU path. Every worker calls it with the same step.
    ///
    /// The result must have the same bits for any number of workers (promise P9).
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError>;

    /// Which kernels run on a GPU, with which constants. Called only with inputs that [`Operator::infer`]
    /// accepts; the same step must always give the same commands. Left out, the operator runs on the CPU alone.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let _ = lower;
        Err(LowerError::NoKernel { op: Self::NAME.into() })
    }

    /// Whether on a GPU an input of a block format is read as a state holds it, block after block as in a file. Weights
    /// and inputs lie in [planes](crate::tensor::blocks::planes()), which is what other operators read.
    fn reads_state_blocks(&self, input: usize) -> bool {
        let _ = input;
        false
    }

    /// Bytes moved and operations done, at least.
    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost;

    /// One parity case: inputs, what f64 arithmetic makes of them, and how far a result may be off.
    /// Called with the choices of a property test; see [`Draw`].
    fn case(draw: &mut Draw<'_>) -> Case;
}

/// [`Operator`] behind a pointer; implemented for every operator, never by hand.
#[allow(missing_docs, reason = "each method is the one of the same name of Operator")]
pub trait AnyOperator: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError>;
    fn memory(&self, inputs: &[Desc]) -> Memory;
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize;
    fn cpu_kernel(&self, inputs: &[Desc]) -> String;
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError>;
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError>;
    fn reads_state_blocks(&self, input: usize) -> bool;
    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost;
    /// The attributes as JSON.
    fn attributes(&self) -> Result<serde_json::Value, serde_json::Error>;
    /// For passes that look for an operator of one type.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Operator> AnyOperator for T {
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        Operator::infer(self, inputs)
    }
    fn memory(&self, inputs: &[Desc]) -> Memory {
        Operator::memory(self, inputs)
    }
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        Operator::cpu_scratch(self, inputs, output, threads)
    }
    fn cpu_kernel(&self, inputs: &[Desc]) -> String {
        Operator::cpu_kernel(self, inputs)
    }
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        Operator::cpu(self, step)
    }
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        Operator::hip(self, lower)
    }
    fn reads_state_blocks(&self, input: usize) -> bool {
        Operator::reads_state_blocks(self, input)
    }
    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Operator::cost(self, inputs, output)
    }
    fn attributes(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut attributes = serde_json::to_value(self)?;
        // Some dependencies make serde_json keep the order of insertion: a plan is the same with them and without.
        attributes.sort_all_objects();
        Ok(attributes)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// One row of an operator table: how to read an operator back from a plan, and how to test it.
#[derive(Clone, Copy)]
pub struct OperatorRow {
    /// The operator's name.
    pub name: &'static str,
    /// Reads the attributes that [`AnyOperator::attributes`] wrote.
    pub decode: fn(&serde_json::Value) -> Result<Arc<dyn AnyOperator>, serde_json::Error>,
    /// Draws a parity case.
    pub case: fn(&mut Draw<'_>) -> Case,
}

impl OperatorRow {
    /// The row of an operator.
    pub const fn of<T: Operator>() -> OperatorRow {
        OperatorRow { name: T::NAME, decode: |value| Ok(Arc::new(T::deserialize(value)?)), case: T::case }
    }
}

impl fmt::Debug for OperatorRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorRow").field("name", &self.name).finish_non_exhaustive()
    }
}
