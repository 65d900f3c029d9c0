//! Why a plan cannot be run.

use super::BudgetError;
use crate::cpu::{PoolError, StepError};
use crate::plan::PlanFault;
use crate::tensor::Desc;

/// Why a plan cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The plan breaks its own rules.
    #[error("the plan is not legal: {0}")]
    Plan(Box<PlanFault>),
    /// The plan was made for another device.
    #[error(
        "the plan was made for `{made_for}` with {threads} threads; this executor is `{executor}` with {own_threads}"
    )]
    Device {
        /// The plan's executor.
        made_for: String,
        /// The plan's threads.
        threads: usize,
        /// This executor.
        executor: &'static str,
        /// This executor's threads.
        own_threads: usize,
    },
    /// An operator that is in no table.
    #[error("step `{step}` wants operator `{op}`, which is not registered (see `CpuExecutor::register`)")]
    UnknownOperator {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
    },
    /// Attributes that the operator cannot read, or a step whose output is not what it infers.
    #[error("step `{step}` ({op}): {reason}")]
    BadStep {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A weight that the source does not have.
    #[error("the plan needs weight `{name}` ({desc}), which is not there")]
    MissingWeight {
        /// Its name.
        name: String,
        /// What the plan needs.
        desc: Desc,
    },
    /// A weight, state or input of another shape or type.
    #[error("{what} `{name}` is {found}, the plan needs {wanted}")]
    Mismatch {
        /// Weight, state or input.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// What the plan needs.
        wanted: String,
    },
    /// An input that was not given since another plan used the arena.
    #[error("input `{name}` was not given")]
    MissingInput {
        /// Its name.
        name: String,
    },
    /// A name or number that the plan, or the executor, does not have.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// Input, output, state or plan.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// More memory than the budget allows.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The system has no such memory.
    #[error("the system refused {bytes} bytes for the {what}")]
    OutOfMemory {
        /// What for.
        what: String,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The threads could not be started.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A step failed on its data.
    #[error("step `{step}` ({op}): {error}")]
    Step {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
        /// What was wrong.
        error: StepError,
    },
}

impl From<PlanFault> for ExecError {
    fn from(fault: PlanFault) -> ExecError {
        ExecError::Plan(Box::new(fault))
    }
}
