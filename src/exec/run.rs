//! The executor's contract, and the fence by type: a [`Run`] in flight borrows its executor mutably, so outputs can
//! only be read after [`Run::wait`], or after the run was dropped, which also waits.

use std::time::Duration;

use bytemuck::Pod;

use super::{Budget, ExecError, Timeline};
use crate::plan::{DeviceDesc, Plan};

/// A plan that an executor has loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub(super) usize);

/// Loads plans and runs them, in one arena, one at a time.
pub trait Executor: Send {
    /// The device description that plans for this executor are made for.
    fn device(&self) -> DeviceDesc;

    /// The budget and its holders.
    fn budget(&self) -> &Budget;

    /// Makes a plan ready to run: binds its weights and states, and grows the arena if needed. All errors that can be
    /// detected before running are reported here.
    fn load(&mut self, plan: Plan) -> Result<PlanId, ExecError>;

    /// Frees a plan with its constants, its pinned inputs and outputs and its recording, after a run in flight has ended.
    /// Its id is not used again. Weights and states stay for other plans, and the arena keeps its size.
    ///
    /// # Errors
    /// [`ExecError::Unknown`] if there is no such plan. [`ExecError::Failed`] after an earlier error of the device; then
    /// the plan is freed with the executor.
    fn unload(&mut self, id: PlanId) -> Result<(), ExecError>;

    /// A loaded plan.
    fn plan(&self, id: PlanId) -> Result<&Plan, ExecError>;

    /// Sets input number `input` (of [`Plan::inputs`]). The bytes stay until the input is set again or another plan is
    /// run.
    fn write(&mut self, id: PlanId, input: usize, bytes: &[u8]) -> Result<(), ExecError>;

    /// Sets the elements of the input of this name.
    fn set<T: Pod>(&mut self, id: PlanId, name: &str, data: &[T]) -> Result<(), ExecError>
    where
        Self: Sized,
    {
        let unknown = || ExecError::Unknown { what: "input", name: name.into() };
        let (number, _) = self.plan(id)?.input(name).ok_or_else(unknown)?;
        self.write(id, number, bytemuck::cast_slice(data))
    }

    /// Queues every step. The run borrows the executor, so nothing can be written, loaded or freed until it has ended.
    fn run(&mut self, id: PlanId) -> Result<Run<'_>, ExecError>;

    /// Waits for the run in flight; called by [`Run::wait`].
    fn fence(&mut self) -> Result<(), ExecError>;

    /// The bytes of output number `output` (of [`Plan::outputs`]), for [`Outputs`] and for callers that need them after
    /// the outputs were dropped. It takes `&self`, and a [`Run`] holds the executor as `&mut`, so the borrow checker
    /// refuses a call while a run is in flight. The bytes are those of the plan's last run until another plan is run,
    /// an input is written or a plan is loaded; after that, and before the first run, they are unspecified.
    fn output(&self, id: PlanId, output: usize) -> Result<&[u8], ExecError>;

    /// Turns on the timing of steps and clears earlier times.
    fn start_timing(&mut self);

    /// Time spent in each step of a plan since [`Executor::start_timing`].
    fn times(&self, id: PlanId) -> &[Duration];

    /// Turns on the timing of steps like [`Executor::start_timing`], and records a timeline. A GPU then runs steps one
    /// by one instead of as a recorded graph.
    fn start_timeline(&mut self, timeline: Timeline);

    /// The timeline since [`Executor::start_timeline`].
    fn timeline(&self) -> Option<&Timeline>;
}

/// A run in flight. Dropping it waits for its end.
pub struct Run<'e> {
    executor: Option<&'e mut dyn Executor>,
    id: PlanId,
}

impl<'e> Run<'e> {
    /// A run of this plan, queued on this executor.
    pub fn new(executor: &'e mut dyn Executor, id: PlanId) -> Run<'e> {
        Run { executor: Some(executor), id }
    }

    /// The fence: waits for the end of the run and returns its outputs.
    pub fn wait(mut self) -> Result<Outputs<'e>, ExecError> {
        let id = self.id;
        let gone = || ExecError::Unknown { what: "run", name: "ended".into() };
        let executor = self.executor.take().ok_or_else(gone)?;
        executor.fence()?;
        Ok(Outputs { executor, id })
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(executor) = self.executor.take()
            && let Err(error) = executor.fence()
        {
            tracing::error!(%error, "a run that nobody waited for failed");
        }
    }
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("plan", &self.id).finish_non_exhaustive()
    }
}

/// The outputs of a run that has ended.
pub struct Outputs<'e> {
    executor: &'e dyn Executor,
    id: PlanId,
}

impl<'e> Outputs<'e> {
    /// The elements of the output of this name. `T` must have the size of the output's elements.
    pub fn get<T: Pod>(&self, name: &str) -> Result<&'e [T], ExecError> {
        let unknown = || ExecError::Unknown { what: "output", name: name.into() };
        let (number, _) = self.executor.plan(self.id)?.output(name).ok_or_else(unknown)?;
        self.at(number)
    }

    /// The elements of output number `number`; see [`Outputs::get`].
    pub fn at<T: Pod>(&self, number: usize) -> Result<&'e [T], ExecError> {
        let bytes = self.executor.output(self.id, number)?;
        bytemuck::try_cast_slice(bytes).map_err(|error| ExecError::Mismatch {
            what: "output",
            name: number.to_string(),
            found: format!("{} bytes", bytes.len()),
            wanted: format!("elements of {} ({error})", std::any::type_name::<T>()),
        })
    }
}

impl std::fmt::Debug for Outputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outputs").field("plan", &self.id).finish_non_exhaustive()
    }
}
