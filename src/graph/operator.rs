//! The operator contract. Built-in operators and users' own operators implement the same trait.

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

/// Memory of an operator's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Memory {
    /// New memory.
    Fresh,
    /// New memory, or this input's memory if nothing reads that input later. The operator must work when both are the
    /// same bytes; see [`CpuStep::for_spans`].
    InPlace(usize),
    /// The same bytes as this input, starting `offset` bytes in. Nothing runs.
    View {
        /// Index of the input.
        input: usize,
        /// Bytes from the input's first element to the output's.
        offset: usize,
    },
    /// The same bytes as this input, a state that the operator writes.
    WritesState(usize),
}

/// An output after the first, of an operator with several outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FurtherOutput {
    /// Dtype, shape and strides.
    pub desc: Desc,
    /// [`Memory::Fresh`] or [`Memory::WritesState`]. Only the first output may share memory with an arena input: with
    /// two, an operator would have to declare which output it writes before it reads which input.
    pub memory: Memory,
}

/// The outputs of an operator after the first; empty for most operators.
pub type FurtherOutputs = SmallVec<[FurtherOutput; 2]>;

/// Lower bound of a step's cost: the yardstick of `rfgraph graph` and of every benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: u64,
    /// Additions and multiplications.
    pub flops: u64,
}

impl Cost {
    /// Cost of reading every input once, writing the output once, and `flops` operations.
    pub fn streaming(inputs: &[Desc], output: &Desc, flops: u64) -> Cost {
        let bytes = inputs.iter().chain([output]).map(|desc| desc.data_bytes() as u64).sum();
        Cost { bytes, flops }
    }
}

/// An operator: a small struct of its attributes.
///
/// The attributes are plain serde data, so that a plan can be serialized. They must not be infinite or NaN: JSON cannot
/// represent these.
pub trait Operator: fmt::Debug + Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// The name in plans, messages and tables: lower case, the field's word.
    const NAME: &'static str;

    /// Dtype and shape rule: the first output's description, or an error for wrong inputs.
    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError>;

    /// Memory of the first output. Called only with inputs that [`Operator::infer`] accepts.
    fn memory(&self, inputs: &[Desc]) -> Memory {
        let _ = inputs;
        Memory::Fresh
    }

    /// The outputs after the first, for an operator with several: `y` and the new content of a state, say. Every plan
    /// allocates all of them, read or not.
    ///
    /// # Errors
    /// As [`Operator::infer`], which is called first.
    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let _ = inputs;
        Ok(FurtherOutputs::new())
    }

    /// Bytes of scratch memory that the CPU step needs with `threads` threads. `output` is the first one.
    fn cpu_scratch(&self, inputs: &[Desc], output: &Desc, threads: usize) -> usize {
        let _ = (inputs, output, threads);
        0
    }

    /// For an operator that calls [`CpuStep::product`] or [`CpuStep::product_id`]: the kernel of the product and the
    /// step's scratch size, which replaces [`Operator::cpu_scratch`]. Chosen when a plan is made, recorded in the step,
    /// and passed to [`Operator::cpu`] in its [`CpuStep`].
    fn cpu_kernel(&self, inputs: &[Desc], target: CpuTarget) -> Option<CpuKernel> {
        let _ = (inputs, target);
        None
    }

    /// Reference semantics and the CPU implementation. Every worker calls it with the same step.
    ///
    /// The result must have the same bits for any number of workers (promise P9).
    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError>;

    /// Lowers the operator to GPU commands. Called only with inputs that [`Operator::infer`] accepts; the same step
    /// must always give the same commands. By default the operator runs on the CPU only.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let _ = lower;
        Err(LowerError::NoKernel { op: Self::NAME.into() })
    }

    /// True if on a GPU this input of a block format is read in a state's layout, block after block as in a file.
    /// Weights and inputs are stored in planes (`tensor/blocks/planes.rs`), which all other operators read.
    fn reads_state_blocks(&self, input: usize) -> bool {
        let _ = input;
        false
    }

    /// The operator with its usual attributes, which a plan shown as text omits. By default all attributes are shown.
    fn defaults() -> Option<Self> {
        None
    }

    /// Lower bound of bytes moved and operations done. `output` is the first one.
    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost;

    /// One parity case: inputs, the results in f64 arithmetic, and tolerances. Called with the choices of a property
    /// test; see [`Draw`].
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
    /// For passes that look for an operator type.
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
        // Some dependencies make serde_json keep insertion order: sorting keeps plans the same with and without them.
        attributes.sort_all_objects();
        Ok(attributes)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// One row of an operator table: reads an operator back from a plan, and draws its parity cases.
#[derive(Clone, Copy)]
pub struct OperatorRow {
    /// The operator's name.
    pub name: &'static str,
    /// Reads the attributes that [`AnyOperator::attributes`] wrote.
    pub decode: fn(&serde_json::Value) -> Result<Arc<dyn AnyOperator>, serde_json::Error>,
    /// The attributes of [`Operator::defaults`]; null if it returns `None`.
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
