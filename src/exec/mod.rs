//! Running a plan: the [`Executor`] trait, the fence, memory and its budget.
//!
//! An executor owns the arena and the states, binds weights by name and runs plans. It makes no decisions: order,
//! offsets and waits are in the plan. This folder knows plans and operators but no models.

mod books;
mod budget;
mod cpu;
mod error;
mod hip;
mod memory;
mod operators;
mod run;
mod timeline;
mod trace;
mod weights;

#[cfg(feature = "cli")]
pub(crate) use budget::Bytes;
pub use budget::{Budget, BudgetError};
pub use cpu::CpuExecutor;
pub use error::ExecError;
pub use hip::{HipExecutor, HipOptions, Loading, OnLoading};
pub(crate) use memory::AlignedBuffer;
pub use run::{Executor, Outputs, PlanId, Run};
pub use timeline::{Span, SpanKind, Timeline};
pub use trace::Trace;
pub use weights::{WeightMap, WeightSource};
