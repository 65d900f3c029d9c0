//! What lies on the device for longer than a run: weights, constants, states and the arena. Nothing is allocated
//! before the budget has agreed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fence::{Ended, wait_for};
use super::upload::{Upload, UploadError, UploadProgress, staging_bytes, upload};
use crate::exec::{Budget, ExecError, WeightSource};
use crate::hip::{Context, DeviceMemory, Stream};
use crate::plan::Plan;
use crate::tensor::Desc;

/// Who holds what in the budget.
const WEIGHTS: &str = "weights";
const CONSTANTS: &str = "constants";
const STATES: &str = "KV cache";
const ARENA: &str = "arena";
const LARGER_ARENA: &str = "a larger arena beside the one there is";
const STAGING: &str = "staging for weights";
/// Pinned memory through which a state is read or written.
pub(super) const STATE_STAGING: &str = "staging for a state";
/// Pinned memory of the plans' inputs and outputs.
pub(super) const PORTS: &str = "inputs and outputs";

/// A weight: where its source has it, so that the same name with other bytes is another weight.
type WeightKey = (String, usize);

/// Memory on the device.
#[derive(Debug)]
pub(super) struct Store {
    context: Context,
    pub budget: Budget,
    source: Source,
    weights: BTreeMap<WeightKey, Arc<DeviceMemory>>,
    states: BTreeMap<String, (Desc, Arc<DeviceMemory>)>,
    arena: Option<DeviceMemory>,
    constant_bytes: u64,
    /// Copies may be under way that nobody can wait for.
    pub lost: bool,
}

/// The source of weights, without anything to print.
struct Source(Arc<dyn WeightSource>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("weights")
    }
}

/// What a plan reads and keeps, on the device.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pub weights: Vec<Arc<DeviceMemory>>,
    pub states: Vec<Arc<DeviceMemory>>,
    pub constants: Vec<DeviceMemory>,
}

/// What is done on the way.
pub(super) struct Bring<'a> {
    pub stream: &'a Stream,
    pub timeout: Duration,
    pub progress: Option<UploadProgress<'a>>,
}

impl Store {
    pub fn new(context: &Context, source: Arc<dyn WeightSource>, budget: Budget) -> Store {
        Store {
            context: context.clone(),
            budget,
            source: Source(source),
            weights: BTreeMap::new(),
            states: BTreeMap::new(),
            arena: None,
            constant_bytes: 0,
            lost: false,
        }
    }

    /// Where the arena starts.
    pub fn arena(&self) -> u64 {
        self.arena.as_ref().map_or(0, DeviceMemory::address)
    }

    /// A state and its description.
    pub fn state(&self, name: &str) -> Result<(Desc, &DeviceMemory), ExecError> {
        let unknown = || ExecError::Unknown { what: "state", name: name.into() };
        self.states.get(name).map(|(desc, memory)| (*desc, &**memory)).ok_or_else(unknown)
    }

    /// Brings a plan's weights, constants and states to the device, as far as they are not there.
    pub fn leaves(&mut self, plan: &Plan, bring: &Bring<'_>) -> Result<Leaves, ExecError> {
        let leaves = self.bring(plan, bring);
        if leaves.is_err() {
            self.forget_unused()?;
        }
        leaves
    }

    /// Gives back what no plan uses, after a plan was refused.
    pub fn forget_unused(&mut self) -> Result<(), ExecError> {
        if !self.lost {
            self.weights.retain(|_, memory| Arc::strong_count(memory) > 1);
            self.states.retain(|_, (_, memory)| Arc::strong_count(memory) > 1);
        }
        self.budget.hold(WEIGHTS, bytes_of(self.weights.values()))?;
        self.budget.hold(STATES, bytes_of(self.states.values().map(|(_, memory)| memory)))?;
        self.budget.hold(CONSTANTS, self.constant_bytes)?;
        self.budget.hold(STAGING, 0)?;
        Ok(())
    }

    fn bring(&mut self, plan: &Plan, bring: &Bring<'_>) -> Result<Leaves, ExecError> {
        let source = Arc::clone(&self.source.0);
        let mut uploads: Vec<Upload<'_>> = Vec::new();
        let mut leaves = Leaves::default();
        self.check_states(plan)?;
        // Everything is asked of the budget before anything is allocated.
        let mut found = Vec::new();
        for slot in &plan.weights {
            let missing = || ExecError::MissingWeight { name: slot.name.clone(), desc: slot.desc };
            let (desc, bytes) = source.weight(&slot.name).ok_or_else(missing)?;
            let bytes = bytes.get(..desc.extent()).filter(|_| desc == slot.desc).ok_or_else(|| {
                let found = format!("{desc} in {} bytes", bytes.len());
                let (name, wanted) = (slot.name.clone(), slot.desc.to_string());
                ExecError::Mismatch { what: "weight", name, found, wanted }
            })?;
            found.push(((slot.name.clone(), bytes.as_ptr() as usize), desc, bytes));
        }
        let new = |(key, ..): &&(WeightKey, Desc, &[u8])| !self.weights.contains_key(key);
        let wanted: u64 = found.iter().filter(new).map(|(_, _, bytes)| bytes.len() as u64).sum();
        let constants: u64 = plan.constants.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let states: u64 = self.new_states(plan).map(|slot| slot.desc.extent() as u64).sum();
        self.budget.hold(WEIGHTS, bytes_of(self.weights.values()).saturating_add(wanted))?;
        self.budget.hold(CONSTANTS, self.constant_bytes.saturating_add(constants))?;
        let held = bytes_of(self.states.values().map(|(_, memory)| memory));
        self.budget.hold(STATES, held.saturating_add(states))?;
        self.budget.hold(STAGING, staging_bytes((wanted + constants) as usize) as u64)?;

        for ((name, at), desc, bytes) in found {
            let key = (name, at);
            let memory = match self.weights.get(&key) {
                Some(memory) => Arc::clone(memory),
                None => {
                    let memory = Arc::new(self.alloc(&format!("weight `{}`", key.0), bytes.len())?);
                    let slot = plan.weights.get(leaves.weights.len());
                    let name = slot.map_or("", |slot| &slot.name);
                    let (dtype, address) = (desc.dtype, memory.address());
                    uploads.push(Upload { name, dtype, bytes, address });
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
        if let Err(error) = self.make_states(plan, bring) {
            if self.lost {
                // Freeing anything would wait for the device.
                std::mem::forget(leaves);
            }
            return Err(error);
        }
        for slot in &plan.states {
            let unknown = || ExecError::Unknown { what: "state", name: slot.name.clone() };
            leaves.states.push(Arc::clone(&self.states.get(&slot.name).ok_or_else(unknown)?.1));
        }
        if let Err(UploadError { error, lost }) =
            upload(&self.context, bring.stream, &uploads, bring.timeout, bring.progress)
        {
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

    fn new_states<'p>(&self, plan: &'p Plan) -> impl Iterator<Item = &'p crate::plan::LeafSlot> + use<'p> {
        let new = |slot: &&crate::plan::LeafSlot| !self.states.contains_key(&slot.name);
        plan.states.iter().filter(new).collect::<Vec<_>>().into_iter()
    }

    fn check_states(&self, plan: &Plan) -> Result<(), ExecError> {
        for slot in &plan.states {
            if let Some((desc, _)) = self.states.get(&slot.name)
                && *desc != slot.desc
            {
                let (found, wanted) = (desc.to_string(), slot.desc.to_string());
                return Err(ExecError::Mismatch { what: "state", name: slot.name.clone(), found, wanted });
            }
        }
        Ok(())
    }

    /// Makes the states that are not there, zero. Their first use is on another stream: the caller's fence of
    /// the load orders them.
    fn make_states(&mut self, plan: &Plan, bring: &Bring<'_>) -> Result<(), ExecError> {
        let new: Vec<_> = self.new_states(plan).collect();
        if new.is_empty() {
            return Ok(());
        }
        let failed = |error| ExecError::gpu("clearing of the KV cache", error);
        let cleared = self.context.event(false).map_err(failed)?;
        // All before the first is filled: what is refused here is given back, and nothing may be queued on it then.
        let mut made = Vec::new();
        for slot in new {
            made.push((slot, self.alloc(&format!("state `{}`", slot.name), slot.desc.extent())?));
        }
        let mut result = Ok(());
        for (slot, memory) in made {
            if result.is_ok() {
                // SAFETY: just allocated, and kept until the event below was waited for.
                result = unsafe { bring.stream.fill(memory.address(), 0, memory.len()) };
            }
            self.states.insert(slot.name.clone(), (slot.desc, Arc::new(memory)));
        }
        // Even after one that failed: those before it are queued.
        let recorded = bring.stream.record(&cleared).or_else(|_| bring.stream.record(&cleared));
        let ended = match recorded {
            Ok(()) => wait_for(&cleared, bring.timeout),
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
                    seconds: bring.timeout.as_secs(),
                    progress: "nothing else was queued".into(),
                    versions: self.context.versions().to_string(),
                })
            }
        }
    }

    /// Counts the constants of a plan that is gone.
    pub fn drop_constants(&mut self, constants: Vec<DeviceMemory>) -> Result<(), ExecError> {
        let bytes: u64 = constants.iter().map(|memory| memory.len() as u64).sum();
        drop(constants);
        self.constant_bytes = self.constant_bytes.saturating_sub(bytes);
        Ok(self.budget.hold(CONSTANTS, self.constant_bytes)?)
    }

    /// A larger arena, if one is needed: the caller tells the plans, and then takes it with [`Store::take_arena`].
    pub fn larger_arena(&mut self, bytes: usize) -> Result<Option<DeviceMemory>, ExecError> {
        let have = self.arena.as_ref().map_or(0, DeviceMemory::len);
        if bytes <= have {
            return Ok(None);
        }
        self.budget.hold(if have == 0 { ARENA } else { LARGER_ARENA }, bytes as u64)?;
        let memory = self.alloc(ARENA, bytes);
        if memory.is_err() {
            self.budget.hold(LARGER_ARENA, 0)?;
            self.budget.hold(ARENA, have as u64)?;
        }
        memory.map(Some)
    }

    /// Puts an arena in the place of the one before, which is freed: nothing is in flight.
    pub fn take_arena(&mut self, arena: DeviceMemory) -> Result<(), ExecError> {
        let bytes = arena.len() as u64;
        self.arena = Some(arena);
        self.budget.hold(LARGER_ARENA, 0)?;
        Ok(self.budget.hold(ARENA, bytes)?)
    }

    /// Keeps everything for ever: work that nobody can wait for may still use it.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.weights));
        std::mem::forget(std::mem::take(&mut self.states));
        std::mem::forget(self.arena.take());
    }
}

fn bytes_of<'m>(memory: impl Iterator<Item = &'m Arc<DeviceMemory>>) -> u64 {
    memory.map(|memory| memory.len() as u64).sum()
}
