//! What an operator promises. Built-in operators and a user's own implement the same trait.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::ShapeError;
use super::case::{Case, Draw};
use crate::cpu::{CpuKernel, CpuStep, CpuTarget, StepError};
use crate::device::{Lower, LowerError};
use crate::tensor::Desc;

/// Where an output of an operator lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

/// An output after the first of an operator that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FurtherOutput {
    /// Dtype, shape and strides.
    pub desc: Desc,
    /// [`Memory::Fresh`] or [`Memory::WritesState`]. The first output alone may lie over an input of the arena: with
    /// two, an operator would have to say which of them it writes before it reads which input.
    pub memory: Memory,
}

/// The outputs of an operator after the first. Most have none.
pub type FurtherOutputs = SmallVec<[FurtherOutput; 2]>;

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

    /// Dtype and shape rule: the first output's description, or what is wrong with the inputs.
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError>;

    /// Where the first output lies in memory. Called only with inputs that [`Operator::infer`] accepts.
    fn memory(&self, inputs: &[Desc]) -> Memory {
        let _ = inputs;
        Memory::Fresh
    }

    /// The outputs after the first, for an operator with several: `y` and the new content of a state, say. All of them
    /// have memory in every plan, whether anything reads them or not.
    ///
    /// # Errors
    /// As [`Operator::infer`], which is asked first.
    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let _ = inputs;
        Ok(FurtherOutputs::new())
    }

    /// Bytes of scratch memory that the CPU step needs, on this many threads. `output` is the first one.
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        let _ = (inputs, output, threads);
        0
    }

    /// For an operator that calls [`CpuStep::product`] or [`CpuStep::product_id`]: the kernel of the product, and the
    /// scratch memory of the step, which is then not asked of [`Operator::cpu_scratch`]. It is decided when a plan is
    /// made, stands in the step, and comes back to [`Operator::cpu`] in its [`CpuStep`].
    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        let _ = (inputs, target);
        None
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
    /// and inputs lie in planes (`tensor/blocks/planes.rs`), which is what other operators read.
    fn reads_state_blocks(&self, input: usize) -> bool {
        let _ = input;
        false
    }

    /// The operator as it mostly is: a plan shown as text leaves out the attributes that are as here. By default all are
    /// shown.
    fn defaults() -> Option<Self> {
        None
    }

    /// Bytes moved and operations done, at least. `output` is the first one.
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
    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError>;
    /// The descriptions of all outputs.
    fn outputs(&self, inputs: &[Desc]) -> Result<SmallVec<[Desc; 2]>, ShapeError> {
        let mut outputs = SmallVec::from_slice(&[self.infer(inputs)?]);
        outputs.extend(self.further_outputs(inputs)?.iter().map(|output| output.desc));
        Ok(outputs)
    }
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize;
    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel>;
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
    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        Operator::further_outputs(self, inputs)
    }
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        Operator::cpu_scratch(self, inputs, output, threads)
    }
    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        Operator::cpu_kernel(self, inputs, target)
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
    /// The attributes of [`Operator::defaults`]; null where there are none.
    pub defaults: fn() -> serde_json::Value,
    /// Draws a parity case.
    pub case: fn(&mut Draw<'_>) -> Case,
}

impl OperatorRow {
    /// The row of an operator.
    pub const fn of<T: Operator>() -> OperatorRow {
        OperatorRow {
            name: T::NAME,
            decode: |value| Ok(Arc::new(T::deserialize(value)?)),
            defaults: || serde_json::to_value(T::defaults()).unwrap_or_default(),
            case: T::case,
        }
    }
}

impl fmt::Debug for OperatorRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorRow").field("name", &self.name).finish_non_exhaustive()
    }
}
