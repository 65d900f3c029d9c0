//! Loading a plan, which takes kernels, memory and addresses, and freeing it. Nothing is in flight meanwhile.

use std::sync::Arc;

use super::blas_start::BlasStart;
use super::loaded::{GpuPlan, MARK_EVERY};
use super::upload::Uploader;
use super::{HipExecutor, Loading, store};
use crate::device::{Command, Variant};
use crate::exec::{ExecError, PlanId};
use crate::hip::Function;
use crate::plan::Plan;

impl HipExecutor {
    /// Compiles the kernels of a plan and returns those of each step's launches.
    pub(super) fn kernels(&self, plan: &Plan) -> Result<Vec<Vec<Function>>, ExecError> {
        let variants = |step: &crate::plan::Step| -> Vec<Variant> {
            let launches = step.commands.iter().filter_map(|command| match command {
                Command::Launch(launch) => Some(launch.variant.clone()),
                Command::Gemm(_) | Command::Copy { .. } => None,
            });
            launches.collect()
        };
        let steps: Vec<Vec<Variant>> = plan.steps.iter().map(variants).collect();
        let mut all: Vec<Variant> = steps.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        let on_loading = self.on_loading.clone();
        let progress = move |done, total| {
            if let Some(on_loading) = &on_loading {
                on_loading(Loading::Kernels(done, total));
            }
        };
        self.jit.prepare(&all, &progress)?;
        let functions = |step: &Vec<Variant>| step.iter().map(|variant| self.jit.function(variant)).collect();
        Ok(steps.iter().map(functions).collect::<Result<_, _>>()?)
    }

    /// Binds a plan to its memory.
    pub(super) fn place(
        &mut self,
        plan: Arc<Plan>,
        functions: Vec<Vec<Function>>,
    ) -> Result<GpuPlan, ExecError> {
        let on_loading = self.on_loading.clone();
        let progress = move |done, total| {
            if let Some(on_loading) = &on_loading {
                on_loading(Loading::Weights(done, total));
            }
        };
        let (context, stream, timeout) = (&self.context, &self.lanes.copy, self.options.timeout);
        let uploader = Uploader { context, stream, timeout, progress: Some(&progress) };
        let start = match self.blas_started {
            true => None,
            false => BlasStart::of(&plan, context, &mut self.store.budget),
        };
        let leaves = match start {
            None => self.store.leaves(&plan, &uploader),
            Some(start) => {
                self.blas_started = true;
                let (leaves, ended) =
                    start.beside(&self.lanes, timeout, || self.store.leaves(&plan, &uploader));
                self.store.lost |= ended.is_err();
                start.end(&mut self.store.budget, !self.store.lost);
                if let Err(error) = ended {
                    // Freeing them would wait for the device, which does not respond.
                    std::mem::forget(leaves);
                    return Err(error);
                }
                leaves
            }
        }?;
        let mark_every = if self.options.trace { 1 } else { MARK_EVERY };
        let mut loaded = GpuPlan::new(plan, functions, leaves, &self.context, mark_every)?;
        let held = self.port_bytes();
        let result = self.fit(&mut loaded, held);
        if let Err(error) = result {
            self.store.drop_constants(std::mem::take(&mut loaded.leaves.constants))?;
            drop(loaded);
            self.store.budget.hold(store::PORTS, held)?;
            self.store.forget_brought()?;
            return Err(error);
        }
        Ok(loaded)
    }

    fn fit(&mut self, loaded: &mut GpuPlan, held: u64) -> Result<(), ExecError> {
        self.store.budget.hold(store::PORTS, held.saturating_add(loaded.ports.bytes()))?;
        loaded.ports.allocate(&self.context)?;
        self.grow_arena(loaded.plan.arena)?;
        let start = self.store.arena();
        loaded.rebind(loaded.bound(start)?, start)
    }

    /// Bytes of pinned memory of all plans.
    fn port_bytes(&self) -> u64 {
        self.plans.values().map(|plan| plan.ports.bytes()).sum()
    }

    /// Grows the arena and rebinds every plan to it. Nothing is in flight.
    fn grow_arena(&mut self, bytes: usize) -> Result<(), ExecError> {
        if !self.store.must_grow(bytes) {
            return Ok(());
        }
        let grown = self.move_into(bytes);
        self.store.settle_arena()?;
        grown
    }

    /// Moves all plans into an arena of `bytes` bytes.
    fn move_into(&mut self, bytes: usize) -> Result<(), ExecError> {
        let arena = self.store.larger_arena(bytes)?;
        let start = arena.address();
        let bound = self.plans.values().map(|plan| plan.bound(start)).collect::<Result<Vec<_>, _>>()?;
        for (plan, steps) in self.plans.values_mut().zip(bound) {
            plan.rebind(steps, start)?;
        }
        self.books.arena_moved();
        self.store.take_arena(arena);
        Ok(())
    }

    /// Frees a plan. Nothing is in flight, since freeing waits for all work of the process.
    pub(super) fn free(&mut self, id: PlanId) -> Result<(), ExecError> {
        self.books.remove(id)?;
        let mut loaded = self.plans.remove(id)?;
        let constants = std::mem::take(&mut loaded.leaves.constants);
        drop(loaded);
        self.store.drop_constants(constants)?;
        let held = self.port_bytes();
        Ok(self.store.budget.hold(store::PORTS, held)?)
    }
}
