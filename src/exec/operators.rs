//! The operators of an executor, and the checks of a plan's steps against them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::ExecError;
use crate::graph::operator::{AnyOperator, OperatorRow};
use crate::graph::{Memory, ShapeError};
use crate::plan::{Operand, Step};
use crate::tensor::Desc;

/// The descriptions of a step's inputs.
pub(super) type Inputs = SmallVec<[Desc; 8]>;

/// The built-in operators and custom ones.
#[derive(Debug)]
pub(super) struct Operators(Vec<OperatorRow>);

impl Operators {
    /// The built-in operators.
    pub fn built_in() -> Operators {
        Operators(crate::ops::TABLE.to_vec())
    }

    /// Adds an operator; replaces one of the same name.
    pub fn register(&mut self, row: OperatorRow) {
        self.0.retain(|other| other.name != row.name);
        self.0.push(row);
    }

    /// The operator of a step, and the step's inputs. Checks that the outputs are the inferred ones, and that none of
    /// them overlaps an input other than one that the operator may overwrite in place.
    pub fn of_step(&self, step: &Step) -> Result<(Arc<dyn AnyOperator>, Inputs), ExecError> {
        let (name, op) = (&step.name, &step.op);
        let row = self.0.iter().find(|row| row.name == op);
        let row = row.ok_or_else(|| ExecError::UnknownOperator { step: name.clone(), op: op.clone() })?;
        let operator = (row.decode)(&step.attributes).map_err(|error| bad_step(step, error))?;
        let inputs: Inputs = step.inputs.iter().map(|input| input.desc).collect();
        let refused = |error: ShapeError| bad_step(step, error);
        let wanted = operator.outputs(&inputs).map_err(refused)?;
        if step.outputs.len() != wanted.len() {
            let (found, wanted) = (step.outputs.len(), wanted.len());
            return Err(bad_step(step, format!("the plan gives {found} outputs, the operator has {wanted}")));
        }
        if let Some((output, wanted)) =
            step.outputs.iter().zip(&wanted).find(|(output, wanted)| output.desc != **wanted)
        {
            let reason = format!("the plan says the output is {}, it is {wanted}", output.desc);
            return Err(bad_step(step, reason));
        }
        let further = operator.further_outputs(&inputs).map_err(refused)?;
        let memories =
            std::iter::once(operator.memory(&inputs)).chain(further.iter().map(|output| output.memory));
        for (output, memory) in step.outputs.iter().zip(memories) {
            let may_share = match memory {
                Memory::InPlace(input) | Memory::WritesState(input) => Some(input),
                Memory::Fresh | Memory::View { .. } => None,
            };
            let shared = |(i, input): (usize, &Operand)| output.shares_memory(input) && Some(i) != may_share;
            if step.inputs.iter().enumerate().any(shared) {
                let reason = "the output lies over an input that the operator does not work in place of";
                return Err(bad_step(step, reason));
            }
        }
        Ok((operator, inputs))
    }
}

/// A broken rule, or an operator's error.
type Reason = Box<dyn std::error::Error + Send + Sync>;

/// The error of a step that does not match its operator.
pub(super) fn bad_step(step: &Step, reason: impl Into<Reason>) -> ExecError {
    ExecError::BadStep { step: step.name.clone(), op: step.op.clone(), reason: reason.into() }
}

/// Checks that the step has at least `needed` bytes of scratch.
pub(super) fn check_scratch(step: &Step, needed: usize) -> Result<(), ExecError> {
    let given = step.scratch.map_or(0, |(_, bytes)| bytes);
    if given >= needed {
        return Ok(());
    }
    Err(bad_step(step, format!("the plan gives {given} bytes of scratch, {needed} are needed")))
}
