//! A plan that is ready to run: its commands with their addresses, and the points where its two lanes are joined.

use std::sync::Arc;
use std::time::Duration;

use super::bind::{Addresses, Bound, bind};
use super::flight::ExpectedTimes;
use super::ports::Ports;
use super::recording::runs_before_recording;
use super::store::Leaves;
use crate::exec::ExecError;
use crate::exec::timeline::DeviceClocks;
use crate::hip::{Context, Event, Function, GraphExec};
use crate::plan::{Operand, Plan, Point};

/// A plan that is loaded for a GPU: its commands with their addresses, its recording and its events.
#[derive(Debug)]
pub(super) struct GpuPlan {
    pub plan: Arc<Plan>,
    /// The kernels of each step's launches, in order.
    functions: Vec<Vec<Function>>,
    pub steps: Vec<Vec<Bound>>,
    pub leaves: Leaves,
    pub ports: Ports,
    /// The first step that waits for an upload.
    pub first_join: Option<usize>,
    /// The inputs that were set since the last run.
    pub fresh: Vec<bool>,
    pub replay: Replay,
    pub runs_before_recording: u64,
    /// Events after some steps, which show how far a hung run got.
    pub marks: Vec<(usize, Event)>,
    /// Events before the first and after each step, while timing is on.
    pub clocks: Vec<Event>,
    /// Events before and after the uploads, before and after the downloads, while timing is on.
    pub copy_clocks: Vec<Event>,
    /// The expected time of its runs.
    pub expected: ExpectedTimes,
}

/// The state of a plan's recording.
#[derive(Debug)]
pub(super) enum Replay {
    /// Not recorded; run step by step since its addresses were bound.
    StepByStep {
        /// The number of those runs.
        runs: u64,
    },
    /// Recorded.
    Recorded(GraphExec),
    /// The platform refused to record it.
    Refused,
}

/// The clocks of a run's copies: before and after its uploads, before and after its downloads.
const COPY_CLOCKS: usize = 4;

/// Steps from one mark to the next; with tracing on, every step is marked.
pub(super) const MARK_EVERY: usize = 32;

impl GpuPlan {
    pub fn new(
        plan: Arc<Plan>,
        functions: Vec<Vec<Function>>,
        leaves: Leaves,
        context: &Context,
        mark_every: usize,
    ) -> Result<GpuPlan, ExecError> {
        let failed = |error| ExecError::gpu("an event of a plan", error);
        let mark = |step| Ok((step, context.event(false).map_err(failed)?));
        let last = plan.steps.len().saturating_sub(1);
        let marks = (0..plan.steps.len()).filter(|step| (step + 1) % mark_every == 0 || *step == last);
        Ok(GpuPlan {
            ports: Ports::new(&plan)?,
            first_join: first_join(&plan),
            fresh: vec![false; plan.inputs.len()],
            replay: Replay::StepByStep { runs: 0 },
            runs_before_recording: runs_before_recording(&plan),
            marks: marks.map(mark).collect::<Result<_, ExecError>>()?,
            clocks: Vec::new(),
            copy_clocks: Vec::new(),
            expected: ExpectedTimes::default(),
            steps: Vec::new(),
            functions,
            leaves,
            plan,
        })
    }

    /// The commands with their addresses, for an arena at this address.
    pub fn bound(&self, arena: u64) -> Result<Vec<Vec<Bound>>, ExecError> {
        let addresses = self.addresses(arena);
        let steps = self.plan.steps.iter().zip(&self.functions);
        steps.map(|(step, functions)| bind(step, functions, &addresses)).collect()
    }

    fn addresses(&self, arena: u64) -> Addresses<'_> {
        let Leaves { weights, states, constants } = &self.leaves;
        Addresses { arena, weights, states, constants }
    }

    /// Replaces the commands by those of [`GpuPlan::bound`]. Drops a recording, which has the old addresses.
    pub fn rebind(&mut self, steps: Vec<Vec<Bound>>, arena: u64) -> Result<(), ExecError> {
        self.steps = steps;
        self.replay = Replay::StepByStep { runs: 0 };
        let Leaves { weights, states, constants } = &self.leaves;
        self.ports.bind(&self.plan, &Addresses { arena, weights, states, constants })
    }

    /// The plan, for messages.
    pub fn title(&self) -> String {
        let output = self.plan.outputs.first();
        match output {
            Some(port) => {
                format!("{} {} in {} steps", port.name, port.operand.desc.shape, self.plan.steps.len())
            }
            None => format!("a plan of {} steps", self.plan.steps.len()),
        }
    }

    /// A step, for messages: `step 3 of 120, `blk.0.attn_q` (linear)`.
    pub fn step_title(&self, number: usize) -> String {
        let count = self.plan.steps.len();
        match self.plan.steps.get(number) {
            Some(step) => format!("step {} of {count}, `{}` ({})", number + 1, step.name, step.op),
            None => format!("step {} of {count}", number + 1),
        }
    }

    /// A command's step, kernel, launch and shapes, for messages.
    pub fn command_title(&self, number: usize, command: usize) -> String {
        let mut text = self.step_title(number);
        if let (Some(step), Some(bound)) =
            (self.plan.steps.get(number), self.steps.get(number).and_then(|step| step.get(command)))
        {
            text += &format!(": {}", bound.describe(step.commands.get(command)));
            let list = |all: &[Operand]| {
                all.iter().map(|operand| operand.desc.to_string()).collect::<Vec<_>>().join(" and ")
            };
            text += &format!("; reads {}, writes {}", list(&step.inputs), list(&step.outputs));
        }
        text
    }

    /// The progress of a run that hung or failed, from the marks.
    pub fn progress(&self) -> String {
        let done = |(_, event): &&(usize, Event)| matches!(event.is_done(), Ok(true));
        // Marks are in stream order. Each is queried once, as the device may still be running.
        let finished = self.marks.iter().take_while(done).count();
        let step = |mark: usize| self.marks.get(mark).map(|(step, _)| *step);
        let (last, next) = (finished.checked_sub(1).and_then(step), step(finished));
        match (last, next) {
            (Some(last), Some(next)) => format!(
                "the last step known to have finished is {}; {} is not known to have",
                self.step_title(last),
                self.step_title(next)
            ),
            (None, Some(next)) => {
                format!("no step is known to have finished, up to {}", self.step_title(next))
            }
            (Some(last), None) => format!("all steps finished, up to {}", self.step_title(last)),
            (None, None) => "the plan has no steps".into(),
        }
    }

    /// Adds the times of the clocks, after the fence.
    pub fn add_times(&self, times: &mut [Duration]) -> Result<(), ExecError> {
        for (pair, time) in self.clocks.windows(2).zip(times) {
            if let [start, end] = pair {
                let elapsed = start.elapsed_ms(end);
                let elapsed = elapsed.map_err(|error| ExecError::gpu("the time of a step", error))?;
                *time += Duration::from_secs_f64(f64::from(elapsed.max(0.0)) / 1e3);
            }
        }
        Ok(())
    }

    /// The clocks of the last run, after the fence. The first event of a run is the one before its uploads.
    pub fn clock_times(&self) -> Result<DeviceClocks, ExecError> {
        let [zero, uploaded, computed, downloaded] = self.copy_clocks.as_slice() else {
            return Ok(DeviceClocks::default());
        };
        let at = |clock: &Event| -> Result<f64, ExecError> {
            let ms = zero
                .elapsed_ms(clock)
                .map_err(|error| ExecError::gpu("the time of a step or copy", error))?;
            Ok(f64::from(ms))
        };
        Ok(DeviceClocks {
            steps: self.clocks.iter().map(at).collect::<Result<_, _>>()?,
            uploads: Some((0.0, at(uploaded)?)),
            downloads: Some((at(computed)?, at(downloaded)?)),
        })
    }

    /// Makes the clocks for timing steps and copies.
    pub fn make_clocks(&mut self, context: &Context) -> Result<(), ExecError> {
        while self.clocks.len() <= self.plan.steps.len() {
            let clock = context.event(true).map_err(|error| ExecError::gpu("an event of a step", error))?;
            self.clocks.push(clock);
        }
        while self.copy_clocks.len() < COPY_CLOCKS {
            let clock = context.event(true).map_err(|error| ExecError::gpu("an event of a copy", error))?;
            self.copy_clocks.push(clock);
        }
        Ok(())
    }
}

/// The first step that the plan makes wait for an upload. Lanes run in order, so waiting for the last upload waits for
/// all.
fn first_join(plan: &Plan) -> Option<usize> {
    let step = |edge: &crate::plan::Edge| match (edge.from, edge.to) {
        (Point::Upload(_), Point::Step(step)) if !edge.across_runs => Some(step as usize),
        _ => None,
    };
    plan.edges.iter().filter_map(step).min()
}
