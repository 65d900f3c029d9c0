//! Several runs of one plan queued ahead, with one fence after the last: what one run gives the next one takes on the
//! device, and what the host knows beforehand is written beforehand.

use super::{Feed, HipExecutor};
use crate::exec::error::size_mismatch;
use crate::exec::{ExecError, Executor, PlanId};

/// The inputs of one run of a chain.
#[derive(Debug)]
pub struct ChainInputs<'e> {
    executor: &'e mut HipExecutor,
    id: PlanId,
    run: usize,
}

impl ChainInputs<'_> {
    /// Gives an input of this run, and of those after it until it is given again, its bytes.
    pub fn write(&mut self, input: usize, bytes: &[u8]) -> Result<(), ExecError> {
        let loaded = self.executor.loaded(self.id)?;
        let port = loaded.plan.inputs.get(input);
        let port = port.ok_or_else(|| ExecError::Unknown { what: "input", name: input.to_string() })?;
        let wanted = port.operand.desc.extent();
        if bytes.len() != wanted {
            return Err(size_mismatch("input", &port.name, bytes.len(), wanted));
        }
        let loaded = &mut self.executor.plans[self.id.0];
        loaded.ports.write(self.run, input, bytes);
        if self.run == 0 {
            (loaded.given[input], loaded.fresh[input]) = (true, true);
        }
        Ok(())
    }
}

/// The outputs of a chain that has ended.
#[derive(Debug)]
pub struct ChainOutputs<'e> {
    executor: &'e HipExecutor,
    id: PlanId,
}

impl<'e> ChainOutputs<'e> {
    /// The bytes of output number `output` of run number `run`.
    pub fn get(&self, run: usize, output: usize) -> Result<&'e [u8], ExecError> {
        let unknown = || ExecError::Unknown { what: "output", name: format!("{output} of run {run}") };
        self.executor.loaded(self.id)?.ports.output(run, output).ok_or_else(unknown)
    }
}

impl HipExecutor {
    /// Runs a plan `runs` times with one fence after the last. `inputs` gives each run's inputs, by the run's number;
    /// what it does not give stays as in the run before. Each pair of `feed` is an output of a run that becomes
    /// an input of the next; only the first run's is given.
    ///
    /// # Errors
    /// As [`Executor::run`]; a pair of `feed` that are not of one size, or no runs.
    pub fn run_chain(
        &mut self,
        id: PlanId,
        runs: usize,
        inputs: &mut dyn FnMut(usize, &mut ChainInputs<'_>) -> Result<(), ExecError>,
        feed: &[Feed],
    ) -> Result<ChainOutputs<'_>, ExecError> {
        self.ready()?;
        if runs == 0 {
            return Err(ExecError::Unknown { what: "run of a chain of", name: "0".into() });
        }
        self.check_feed(id, feed)?;
        self.make_current(id);
        let held = self.port_bytes() - self.loaded(id)?.ports.bytes();
        self.plans[id.0].prepare(runs, self.timing, &self.context, &mut self.store, held)?;
        for run in 0..runs {
            self.plans[id.0].ports.copy_inputs(run.saturating_sub(1), run);
            inputs(run, &mut ChainInputs { executor: self, id, run })?;
            if run == 0 {
                self.loaded(id)?.missing_input()?;
            }
        }
        self.launch(id, runs, feed)?;
        self.fence()?;
        // The arena holds the last run's inputs now, and of those that were fed the host knows nothing.
        let loaded = &mut self.plans[id.0];
        loaded.ports.copy_inputs(runs - 1, 0);
        if runs > 1 {
            feed.iter().for_each(|&(_, input)| loaded.given[input] = false);
        }
        Ok(ChainOutputs { executor: self, id })
    }

    fn check_feed(&self, id: PlanId, feed: &[Feed]) -> Result<(), ExecError> {
        let plan = self.plan(id)?;
        for &(output, input) in feed {
            let unknown = |what, number: usize| ExecError::Unknown { what, name: number.to_string() };
            let from = plan.outputs.get(output).ok_or_else(|| unknown("output", output))?;
            let to = plan.inputs.get(input).ok_or_else(|| unknown("input", input))?;
            let (from_desc, to_desc) = (from.operand.desc, to.operand.desc);
            let same = from_desc.dtype == to_desc.dtype && from_desc.extent() == to_desc.extent();
            if !same || from.operand.shares_memory(&to.operand) {
                let (name, found) = (to.name.clone(), format!("{to_desc}"));
                return Err(ExecError::Mismatch {
                    what: "input",
                    name,
                    found,
                    wanted: format!("{from_desc}"),
                });
            }
        }
        Ok(())
    }
}
