//! Records that every executor keeps of its plans: which inputs were set, whose inputs the arena holds, the times of
//! steps, the timeline, and the errors that are the same on every device.
//!
//! An executor adds memory and a way to run steps. This folder knows no device.

mod arena;
mod leaves;
mod plans;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use arena::{ask_for_arena, settle_arena};
pub(super) use leaves::{STATES, States, weight};
pub(super) use plans::Plans;

use super::error::size_mismatch;
use super::{ExecError, PlanId, SpanKind, Timeline};
use crate::plan::{DeviceDesc, Plan, Port};

/// The plans of an executor.
#[derive(Debug, Default)]
pub(super) struct Books {
    plans: Plans<Record>,
    /// The id of the next plan: ids are not used twice.
    next: usize,
    /// The plan whose inputs are in the arena.
    current: Option<PlanId>,
    timing: bool,
    timeline: Option<Timeline>,
}

/// The records of one plan.
#[derive(Debug)]
struct Record {
    plan: Arc<Plan>,
    /// The inputs that were set since the arena last belonged to another plan.
    given: Vec<bool>,
    /// Time spent in each step, while timing is on.
    times: Vec<Duration>,
}

/// Refuses a plan that was made for another device or is not valid.
pub(super) fn check_plan(plan: &Plan, own: DeviceDesc) -> Result<(), ExecError> {
    if plan.device != own {
        return Err(ExecError::Device { made_for: Box::new(plan.device.clone()), own: Box::new(own) });
    }
    Ok(plan.check()?)
}

impl Books {
    /// Adds a plan whose memory the executor has allocated.
    pub fn add(&mut self, plan: Arc<Plan>) -> PlanId {
        let given = vec![false; plan.inputs.len()];
        let times = vec![Duration::ZERO; plan.steps.len()];
        let id = PlanId(self.next);
        self.next += 1;
        self.plans.insert(id, Record { plan, given, times });
        id
    }

    /// Removes a plan. The timeline keeps it if it has spans of it.
    pub fn remove(&mut self, id: PlanId) -> Result<(), ExecError> {
        let Record { plan, .. } = self.plans.remove(id)?;
        if self.current == Some(id) {
            self.current = None;
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.keep(id, plan);
        }
        Ok(())
    }

    /// The plan of this id.
    pub fn plan(&self, id: PlanId) -> Result<&Plan, ExecError> {
        Ok(&self.plans.get(id)?.plan)
    }

    /// An input of a plan; refuses `bytes` other than its size.
    pub fn input(&self, id: PlanId, input: usize, bytes: usize) -> Result<&Port, ExecError> {
        let unknown = || ExecError::Unknown { what: "input", name: input.to_string() };
        let port = self.plans.get(id)?.plan.inputs.get(input).ok_or_else(unknown)?;
        let wanted = port.operand.desc.extent();
        if bytes == wanted { Ok(port) } else { Err(size_mismatch("input", &port.name, bytes, wanted)) }
    }

    /// An output of a plan.
    pub fn output(&self, id: PlanId, output: usize) -> Result<&Port, ExecError> {
        let unknown = || ExecError::Unknown { what: "output", name: output.to_string() };
        self.plans.get(id)?.plan.outputs.get(output).ok_or_else(unknown)
    }

    /// Assigns the arena to this plan. True if it belonged to another plan; then no input is set.
    pub fn make_current(&mut self, id: PlanId) -> bool {
        if self.current == Some(id) {
            return false;
        }
        self.current = Some(id);
        if let Ok(record) = self.plans.get_mut(id) {
            record.given.fill(false);
        }
        true
    }

    /// The arena was moved: no plan's inputs are in it.
    pub fn arena_moved(&mut self) {
        self.current = None;
    }

    /// Records that an input of the current plan was set.
    pub fn mark_given(&mut self, id: PlanId, input: usize) {
        let record = self.plans.get_mut(id).ok();
        if let Some(given) = record.and_then(|record| record.given.get_mut(input)) {
            *given = true;
        }
    }

    /// Refuses to run a plan with unset inputs.
    pub fn check_inputs(&self, id: PlanId) -> Result<(), ExecError> {
        let Record { plan, given, .. } = self.plans.get(id)?;
        let current = self.current == Some(id);
        match plan.inputs.iter().zip(given).find(|(_, given)| !(current && **given)) {
            Some((port, _)) => Err(ExecError::MissingInput { name: port.name.clone() }),
            None => Ok(()),
        }
    }

    /// True while steps are timed.
    pub fn is_timing(&self) -> bool {
        self.timing
    }

    /// Turns on the timing of steps and clears earlier times.
    pub fn start_timing(&mut self) {
        self.timing = true;
        self.plans.values_mut().for_each(|record| record.times.fill(Duration::ZERO));
    }

    /// Time spent in each step of a plan.
    pub fn times(&self, id: PlanId) -> &[Duration] {
        self.plans.get(id).map_or(&[], |record| &record.times)
    }

    /// Turns on the timing of steps and the recording of a timeline.
    pub fn start_timeline(&mut self, timeline: Timeline) {
        self.start_timing();
        self.timeline = Some(timeline);
    }

    /// The timeline, if it is recorded.
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref()
    }

    /// Adds spans of a plan to the timeline, if it is recorded.
    pub fn add_spans(&mut self, id: PlanId, spans: &[(SpanKind, Instant, Instant)]) {
        if let Some(timeline) = &mut self.timeline {
            timeline.add(id, spans);
        }
    }

    /// The times of steps, mutable.
    pub fn times_mut(&mut self, id: PlanId) -> &mut [Duration] {
        self.plans.get_mut(id).map_or(&mut [], |record| &mut record.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::plan::compile;
    use crate::tensor::DType;

    fn books() -> (Books, PlanId, PlanId) {
        let graph = Graph::new();
        let (a, b) = (graph.input("a", DType::F32, [4]), graph.input("b", DType::F32, [4]));
        graph.output("y", a.add(b));
        let plan = Arc::new(compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap());
        let mut books = Books::default();
        let first = books.add(Arc::clone(&plan));
        let second = books.add(plan);
        (books, first, second)
    }

    fn missing(books: &Books, id: PlanId) -> Option<String> {
        match books.check_inputs(id) {
            Ok(()) => None,
            Err(ExecError::MissingInput { name }) => Some(name),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn inputs_are_forgotten_when_another_plan_takes_the_arena() {
        let (mut books, first, second) = books();
        assert!(books.make_current(first));
        books.mark_given(first, 0);
        assert_eq!(missing(&books, first).unwrap(), "b");
        books.mark_given(first, 1);
        assert_eq!(missing(&books, first), None);
        assert_eq!(missing(&books, second).unwrap(), "a", "the question alone changes nothing");
        assert_eq!(missing(&books, first), None);
        assert!(!books.make_current(first));
        assert!(books.make_current(second));
        assert_eq!(missing(&books, first).unwrap(), "a");
        assert!(books.make_current(first), "and stay forgotten when it comes back");
        assert_eq!(missing(&books, first).unwrap(), "a");
        books.mark_given(first, 0);
        books.mark_given(first, 1);
        books.arena_moved();
        assert_eq!(missing(&books, first).unwrap(), "a");
    }

    #[test]
    fn unknown_plans_ports_and_sizes_are_refused_by_name() {
        let (books, first, _) = books();
        let text = |result: Result<&Port, ExecError>| result.unwrap_err().to_string();
        assert_eq!(text(books.input(PlanId(7), 0, 16)), "there is no plan `7`");
        assert_eq!(text(books.input(first, 2, 16)), "there is no input `2`");
        assert_eq!(text(books.input(first, 1, 12)), "input `b` is 12 bytes, the plan needs 16 bytes");
        assert_eq!(text(books.output(first, 1)), "there is no output `1`");
        let plan = books.plan(first).unwrap();
        assert!(matches!(check_plan(plan, DeviceDesc::cpu(2)), Err(ExecError::Device { .. })));
        check_plan(plan, DeviceDesc::cpu(1)).unwrap();
    }

    #[test]
    fn removed_plans_are_unknown_and_their_ids_are_not_used_again() {
        let (mut books, first, second) = books();
        books.make_current(first);
        books.mark_given(first, 0);
        books.remove(first).unwrap();
        assert_eq!(books.plan(first).unwrap_err().to_string(), "there is no plan `0`");
        assert_eq!(books.remove(first).unwrap_err().to_string(), "there is no plan `0`");
        assert_eq!(books.times(first), []);
        let plan = Arc::new(books.plan(second).unwrap().clone());
        let third = books.add(plan);
        assert!(third != first && third != second);
        assert_eq!(missing(&books, third).unwrap(), "a");
    }

    #[test]
    fn starting_timing_discards_old_times() {
        let (mut books, first, _) = books();
        assert!(!books.is_timing());
        books.times_mut(first)[0] = Duration::from_secs(1);
        books.start_timing();
        assert!(books.is_timing());
        assert_eq!(books.times(first), [Duration::ZERO]);
        assert_eq!(books.times(PlanId(7)), []);
    }
}
