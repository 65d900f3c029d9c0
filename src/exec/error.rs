//! Errors of loading and running plans.

use super::BudgetError;
use crate::Remedy;
use crate::cpu::{PoolError, StepError};
use crate::hip::{HipError, JitError};
use crate::plan::{DeviceDesc, PlanFault};
use crate::tensor::Desc;

/// The reason why a plan cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The plan is not valid.
    #[error("the plan is not legal: {0}")]
    Plan(#[source] Box<PlanFault>),
    /// The plan was made for another device.
    #[error("the plan was made for {made_for}; this executor is {own}")]
    Device {
        /// The plan's device.
        made_for: Box<DeviceDesc>,
        /// This executor's device.
        own: Box<DeviceDesc>,
    },
    /// An unregistered operator.
    #[error("step `{step}` uses operator `{op}`, which is not registered (see the executor's `register`)")]
    UnknownOperator {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
    },
    /// Attributes that the operator cannot read, or a step whose outputs differ from the inferred ones.
    #[error("step `{step}` ({op}): {reason}")]
    BadStep {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
        /// The reason.
        #[source]
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A weight that is missing from the source.
    #[error("the plan needs weight `{name}` ({desc}), which is not there")]
    MissingWeight {
        /// Its name.
        name: String,
        /// The plan's description of it.
        desc: Desc,
    },
    /// A weight, state or input of another shape or type.
    #[error("{what} `{name}` is {found}, the plan needs {wanted}")]
    Mismatch {
        /// Weight, state or input.
        what: &'static str,
        /// Its name.
        name: String,
        /// The found description.
        found: String,
        /// The plan's description.
        wanted: String,
    },
    /// An input that was not set since another plan used the arena.
    #[error("input `{name}` was not given")]
    MissingInput {
        /// Its name.
        name: String,
    },
    /// A name or number that is not in the plan or the executor.
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
    /// An allocation that the system refused.
    #[error("the system refused {bytes} bytes for the {what}")]
    OutOfMemory {
        /// The purpose.
        what: String,
        /// Bytes requested.
        bytes: usize,
    },
    /// The threads could not be started.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A kernel that does not compile.
    #[error(transparent)]
    Jit(#[from] JitError),
    /// A failed call of the GPU's library.
    #[error("{what}: {error}")]
    Gpu {
        /// The failed action: the step with its kernel and sizes, or the copy.
        what: String,
        /// The call, and the library's message.
        #[source]
        error: HipError,
    },
    /// The run did not end in time.
    #[error(
        "the GPU did not finish `{plan}` within {seconds} s: {progress}. {versions}. With a longer \
         timeout it may end; with replays turned off the last step is known more closely"
    )]
    Timeout {
        /// The plan, named by its last output and size.
        plan: String,
        /// The deadline in seconds.
        seconds: u64,
        /// The last steps known to have finished.
        progress: String,
        /// Versions of the runtime and the driver, and the device.
        versions: String,
    },
    /// Use of an executor after an earlier failure.
    #[error("executor disabled after an earlier GPU error: {first}")]
    Failed {
        /// The first error.
        first: String,
    },
    /// Outputs read before the run has ended.
    #[error("the run is still in flight; wait for it before its outputs are read")]
    InFlight,
    /// A step failed on its data.
    #[error("step `{step}` ({op}): {error}")]
    Step {
        /// The step.
        step: String,
        /// The operator's name.
        op: String,
        /// The operator's error.
        #[source]
        error: StepError,
    },
}

impl From<PlanFault> for ExecError {
    fn from(fault: PlanFault) -> ExecError {
        ExecError::Plan(Box::new(fault))
    }
}

impl ExecError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            ExecError::Budget(error) => error.remedies(),
            ExecError::Gpu { error, .. } => error.remedies(),
            ExecError::Timeout { .. } => &[Remedy::LongerTimeout, Remedy::NoReplays],
            _ => &[],
        }
    }

    /// True if memory ran out: less use of it may avoid the error.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            ExecError::Budget(_) | ExecError::OutOfMemory { .. } => true,
            ExecError::Gpu { error, .. } => error.is_out_of_memory(),
            _ => false,
        }
    }

    /// The error of a failed call; `what` is the failed action.
    pub(super) fn gpu(what: impl Into<String>, error: HipError) -> ExecError {
        ExecError::Gpu { what: what.into(), error }
    }
}

/// The error of data with a wrong number of bytes.
pub(super) fn size_mismatch(what: &'static str, name: &str, found: usize, wanted: usize) -> ExecError {
    let bytes = |n: usize| format!("{n} bytes");
    ExecError::Mismatch { what, name: name.into(), found: bytes(found), wanted: bytes(wanted) }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    /// A program finds the cause as the source, and the message alone contains it once.
    #[test]
    fn causes_are_sources_and_appear_once_in_the_message() {
        let hip = || HipError::new("hipMemcpyAsync", 1);
        let step = || ("blk.0.q".to_owned(), "linear".to_owned());
        let errors = [
            ExecError::gpu("copying `x`", hip()),
            PlanFault::Duplicate { what: "input", name: "x".into() }.into(),
            ExecError::BadStep { step: step().0, op: step().1, reason: "it has no output".into() },
            ExecError::Step { step: step().0, op: step().1, error: StepError::Elsewhere },
        ];
        for error in errors {
            let source = error.source().unwrap_or_else(|| panic!("{error} has no source"));
            assert_eq!(error.to_string().matches(&source.to_string()).count(), 1, "{error} of {source}");
        }
    }
}
