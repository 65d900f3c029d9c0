//! Device memory that outlives a run: weights, constants, states and the arena. Nothing is allocated before the budget
//! has granted it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::upload::{Upload, UploadError, Uploader, staging_bytes, upload};
use super::waiting::{Ended, wait_for};
use crate::exec::books::{STATES, States, ask_for_arena, settle_arena, weight};
use crate::exec::{Budget, ExecError, WeightSource};
use crate::hip::{Context, DeviceMemory};
use crate::plan::{Plan, StateSlot};

/// Names of holders in the budget.
const WEIGHTS: &str = "weights";
const CONSTANTS: &str = "constants";
const STAGING: &str = "staging for weights";
/// Pinned memory through which a state is read or written.
pub(super) const STATE_STAGING: &str = "staging for a state";
/// Pinned memory of the plans' inputs and outputs.
pub(super) const PORTS: &str = "inputs and outputs";

/// A weight's name and source address, so that the same name with other bytes is another weight.
type WeightKey = (String, usize);

/// Memory on the device.
#[derive(Debug)]
pub(super) struct Store {
    context: Context,
    pub budget: Budget,
    source: Source,
    weights: BTreeMap<WeightKey, Arc<DeviceMemory>>,
    pub states: States<Arc<DeviceMemory>>,
    arena: Option<DeviceMemory>,
    constant_bytes: u64,
    /// The weights and states that the last load added.
    brought: Brought,
    /// True if copies may be under way that cannot be waited for.
    pub lost: bool,
}

/// The source of weights, with a `Debug` that prints no content.
struct Source(Arc<dyn WeightSource>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("weights")
    }
}

/// Names of weights and states that one load added, to be freed if the plan is refused.
#[derive(Debug, Default)]
struct Brought {
    weights: Vec<WeightKey>,
    states: Vec<String>,
}

/// A plan's weights, constants and states on the device.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pub weights: Vec<Arc<DeviceMemory>>,
    pub states: Vec<Arc<DeviceMemory>>,
    pub constants: Vec<DeviceMemory>,
}

impl Store {
    pub fn new(context: &Context, source: Arc<dyn WeightSource>, budget: Budget) -> Store {
        Store {
            context: context.clone(),
            budget,
            source: Source(source),
            weights: BTreeMap::new(),
            states: States::default(),
            arena: None,
            constant_bytes: 0,
            brought: Brought::default(),
            lost: false,
        }
    }

    /// The arena's address.
    pub fn arena(&self) -> u64 {
        self.arena.as_ref().map_or(0, DeviceMemory::address)
    }

    /// Uploads a plan's missing weights and constants, and creates its missing states.
    pub fn leaves(&mut self, plan: &Plan, uploader: &Uploader<'_>) -> Result<Leaves, ExecError> {
        self.brought = Brought::default();
        let leaves = self.bring(plan, uploader);
        if leaves.is_err() {
            self.forget_brought()?;
        }
        leaves
    }

    /// Frees the weights and states that the last load added, after its plan was refused. Others stay even if no plan
    /// uses them, since a state's content outlives the plans that were unloaded.
    pub fn forget_brought(&mut self) -> Result<(), ExecError> {
        let Brought { weights, states } = std::mem::take(&mut self.brought);
        if !self.lost {
            self.weights.retain(|key, _| !weights.contains(key));
            self.states.remove(&states);
        }
        self.budget.hold(WEIGHTS, bytes_of(self.weights.values()))?;
        self.budget.hold(STATES, self.states.bytes())?;
        self.budget.hold(CONSTANTS, self.constant_bytes)?;
        self.budget.hold(STAGING, 0)?;
        Ok(())
    }

    fn bring(&mut self, plan: &Plan, uploader: &Uploader<'_>) -> Result<Leaves, ExecError> {
        let source = Arc::clone(&self.source.0);
        let mut uploads: Vec<Upload<'_>> = Vec::new();
        let mut leaves = Leaves::default();
        let missing_states = self.states.missing(plan)?;
        // Everything is requested from the budget before anything is allocated.
        let mut found = Vec::new();
        for slot in &plan.weights {
            let bytes = weight(&*source, slot)?;
            let key: WeightKey = (slot.name.clone(), bytes.as_ptr() as usize);
            found.push((key, slot, bytes));
        }
        let new = found.iter().filter(|(key, ..)| !self.weights.contains_key(key));
        let wanted: u64 = new.map(|(.., bytes)| bytes.len() as u64).sum();
        let constants: u64 = plan.constants.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.budget.hold(WEIGHTS, bytes_of(self.weights.values()).saturating_add(wanted))?;
        self.budget.hold(CONSTANTS, self.constant_bytes.saturating_add(constants))?;
        self.budget.hold(STATES, self.states.bytes_with(&missing_states))?;
        self.budget.hold(STAGING, staging_bytes((wanted + constants) as usize) as u64)?;

        for (key, slot, bytes) in found {
            let memory = match self.weights.get(&key) {
                Some(memory) => Arc::clone(memory),
                None => {
                    let memory = Arc::new(self.alloc(&format!("weight `{}`", key.0), bytes.len())?);
                    let (name, dtype, address) = (&slot.name, slot.desc.dtype, memory.address());
                    uploads.push(Upload { name, dtype, bytes, address });
                    self.brought.weights.push(key.clone());
                    self.weights.insert(key, Arc::clone(&memory));
                    memory
                }
            };
            leaves.weights.push(memory);
        }
        for (slot, bytes) in &plan.constants {
            let memory = self.alloc(&format!("constant `{}`", slot.name), bytes.len())?;
            let (name, dtype, address) = (&slot.name, slot.desc.dtype, memory.address());
            uploads.push(Upload { name, dtype, bytes, address });
            leaves.constants.push(memory);
        }
        if let Err(error) = self.make_states(missing_states, uploader) {
            if self.lost {
                // Freeing would wait for the device.
                std::mem::forget(leaves);
            }
            return Err(error);
        }
        for slot in &plan.states {
            leaves.states.push(Arc::clone(self.states.get(&slot.name)?));
        }
        if let Err(UploadError { error, lost }) = upload(uploader, &uploads) {
            if lost {
                self.lost = true;
                std::mem::forget(leaves);
            }
            return Err(*error);
        }
        self.budget.hold(STAGING, 0)?;
        self.constant_bytes += constants;
        Ok(leaves)
    }

    fn alloc(&self, what: &str, bytes: usize) -> Result<DeviceMemory, ExecError> {
        self.context.alloc(bytes).map_err(|error| ExecError::gpu(format!("{what}, {bytes} bytes"), error))
    }

    /// Creates missing states, zeroed. They are first used on another stream; the fence at the end of the load orders
    /// that use after the zeroing.
    fn make_states(&mut self, missing: Vec<&StateSlot>, uploader: &Uploader<'_>) -> Result<(), ExecError> {
        if missing.is_empty() {
            return Ok(());
        }
        let failed = |error| ExecError::gpu("clearing of the KV cache", error);
        let cleared = self.context.event(false).map_err(failed)?;
        // Allocate all before the first is filled: if one is refused, the others are freed, and no work may be queued
        // on them.
        let mut made = Vec::new();
        for slot in missing {
            made.push((slot, self.alloc(&format!("state `{}`", slot.name), slot.desc.extent())?));
        }
        let mut result = Ok(());
        for (slot, memory) in made {
            if result.is_ok() {
                // SAFETY: just allocated, and kept until the event below was waited for.
                result = unsafe { uploader.stream.fill(memory.address(), 0, memory.len()) };
            }
            self.brought.states.push(slot.name.clone());
            self.states.insert(slot, Arc::new(memory));
        }
        // Record even after a failed fill, as earlier fills are queued.
        let recorded = uploader.stream.record(&cleared).or_else(|_| uploader.stream.record(&cleared));
        let ended = match recorded {
            Ok(()) => wait_for(&cleared, uploader.timeout),
            Err(_) => {
                self.lost = true;
                Ended::Done
            }
        };
        result.and(recorded).map_err(failed)?;
        match ended {
            Ended::Done => Ok(()),
            Ended::Failed(error) => Err(failed(error)),
            Ended::Late => {
                self.lost = true;
                Err(ExecError::Timeout {
                    plan: "the clearing of the KV cache".into(),
                    seconds: uploader.timeout.as_secs(),
                    progress: "nothing else was queued".into(),
                    versions: self.context.versions().to_string(),
                })
            }
        }
    }

    /// Updates the budget after a plan's constants were dropped.
    pub fn drop_constants(&mut self, constants: Vec<DeviceMemory>) -> Result<(), ExecError> {
        let bytes: u64 = constants.iter().map(|memory| memory.len() as u64).sum();
        drop(constants);
        self.constant_bytes = self.constant_bytes.saturating_sub(bytes);
        Ok(self.budget.hold(CONSTANTS, self.constant_bytes)?)
    }

    /// True if the arena is smaller than this.
    pub fn must_grow(&self, bytes: usize) -> bool {
        bytes > self.arena_bytes()
    }

    fn arena_bytes(&self) -> usize {
        self.arena.as_ref().map_or(0, DeviceMemory::len)
    }

    /// Allocates a larger arena beside the current one. The caller then calls [`Store::settle_arena`], also after an
    /// error.
    pub fn larger_arena(&mut self, bytes: usize) -> Result<DeviceMemory, ExecError> {
        let have = self.arena_bytes();
        ask_for_arena(&mut self.budget, have, bytes)?;
        self.alloc("arena", bytes)
    }

    /// Replaces the arena and frees the old one. Nothing is in flight, and all plans are bound to the new one.
    pub fn take_arena(&mut self, arena: DeviceMemory) {
        self.arena = Some(arena);
    }

    /// Records the current arena in the budget.
    pub fn settle_arena(&mut self) -> Result<(), ExecError> {
        let have = self.arena_bytes();
        settle_arena(&mut self.budget, have)
    }

    /// Leaks everything: work that cannot be waited for may still use it.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.weights));
        std::mem::forget(std::mem::take(&mut self.states));
        std::mem::forget(self.arena.take());
    }
}

fn bytes_of<'m>(memory: impl Iterator<Item = &'m Arc<DeviceMemory>>) -> u64 {
    memory.map(|memory| memory.len() as u64).sum()
}
