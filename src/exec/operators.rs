//! The operators that an executor knows, and what a step of a plan must be to name one.

use std::sync::Arc;

use smallvec::SmallVec;

use super::ExecError;
use crate::graph::Memory;
use crate::graph::operator::{AnyOperator, OperatorRow};
use crate::plan::{Operand, Step};
use crate::tensor::Desc;

/// The descriptions of a step's inputs.
pub(super) type Inputs = SmallVec<[Desc; 8]>;

/// The built-in operators, and a user's own.
#[derive(Debug)]
pub(super) struct Operators(Vec<OperatorRow>);

impl Operators {
    /// The built-in operators.
    pub fn built_in() -> Operators {
        Operators(crate::ops::TABLE.to_vec())
    }

    /// Adds an operator, in the place of one of the same name.
    pub fn register(&mut self, row: OperatorRow) {
        self.0.retain(|other| other.name != row.name);
        self.0.push(row);
    }

    /// The operator of a step, and what it reads. The step's output is what the operator infers, and lies over no input
    /// but one that the operator works in place of.
    pub fn of_step(&self, step: &Step) -> Result<(Arc<dyn AnyOperator>, Inputs), ExecError> {
        let (name, op) = (&step.name, &step.op);
        let row = self.0.iter().find(|row| row.name == op);
        let row = row.ok_or_else(|| ExecError::UnknownOperator { step: name.clone(), op: op.clone() })?;
        let operator = (row.decode)(&step.attributes).map_err(|error| bad_step(step, error.to_string()))?;
        let inputs: Inputs = step.inputs.iter().map(|input| input.desc).collect();
        let output = operator.infer(&inputs).map_err(|error| bad_step(step, error.to_string()))?;
        if output != step.output.desc {
            let reason = format!("the plan says the output is {}, it is {output}", step.output.desc);
            return Err(bad_step(step, reason));
        }
        let may_share = match operator.memory(&inputs) {
            Memory::InPlace(input) | Memory::WritesState(input) => Some(input),
            Memory::Fresh | Memory::View { .. } => None,
        };
        let shared = |(i, input): (usize, &Operand)| step.output.shares_memory(input) && Some(i) != may_share;
        if step.inputs.iter().enumerate().any(shared) {
            let reason = "the output lies over an input that the operator does not work in place of";
            return Err(bad_step(step, reason));
        }
        Ok((operator, inputs))
    }
}

/// A step that is not what its operator makes of it.
pub(super) fn bad_step(step: &Step, reason: impl Into<String>) -> ExecError {
    ExecError::BadStep { step: step.name.clone(), op: step.op.clone(), reason: reason.into() }
}

/// The step must have at least so much scratch memory.
pub(super) fn check_scratch(step: &Step, needed: usize) -> Result<(), ExecError> {
    let given = step.scratch.map_or(0, |(_, bytes)| bytes);
    if given >= needed {
        return Ok(());
    }
    Err(bad_step(step, format!("the plan gives {given} bytes of scratch, {needed} are needed")))
}
